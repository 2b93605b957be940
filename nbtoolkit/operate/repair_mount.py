"""Write the storage account's current key into the environment after the key was rotated.

Azure never returns the key of an environment's storage, so a rotated key shows only when a mount fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState, Json
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.resource_id import parse_location
from nbtoolkit.azure.startup.failures import is_mount_failure
from nbtoolkit.azure.startup.pollers import latest_events
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.errors import Blocked, BrokenFile, InvalidSettings
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.display import FactTable
from nbtoolkit.utils.json_file import read_object
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

_STATE_FILE = "azure-mounts.json"


@dataclass(frozen=True, repr=False)
class Repair(FactTable):
    """Whether the environment's key for the share was written, and why; does not hold the key."""

    app: str
    storage: str
    account: str
    reason: str
    written: bool
    next_step: str

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact."""
        what = "the environment's storage" if self.written else "nothing:"
        rows = [
            ("repaired", f"{what} {self.storage} has the current key of {self.account}"),
            ("because", self.reason),
        ]
        return [*rows, ("next", self.next_step)] if self.next_step else rows


@dataclass(frozen=True)
class _StorageMount:
    """A storage of an environment: the account and file share that apps can mount."""

    environment_id: str
    name: str
    file: Json
    """Azure's JSON: ``accountName``, ``shareName``, ``accessMode``."""

    @property
    def account(self) -> str:
        """The name of the storage account."""
        return str(self.file.get("accountName"))

    @property
    def id(self) -> str:
        """The resource id of the storage."""
        return f"{self.environment_id}/storages/{self.name}"


@dataclass(frozen=True)
class _AccountKey:
    """The first key of a storage account and its creation time; ``repr`` hides the value."""

    value: str = field(repr=False)
    created: str


def repair(*, target: AzureTarget | None = None, progress: Progress | None = None) -> Repair:
    """Let replicas mount the share again after the storage account's key was rotated.

    Azure does not return the key of an environment. So the current key is written if a replica's mount fails,
    if the key is newer than the last written one, or if the last written one is unknown. Costs one PUT; no
    running replica ends and no sleeping app is woken. A repeated run writes nothing.

    Raises :class:`Blocked` if the account refuses all keys, :class:`InvalidSettings`, :class:`AzureFailed`,
    :class:`Busy`.
    """
    progress = progress or SILENT()
    target = target or AzureTarget()
    with target.workspace.lock("repair", target=target.name):
        app = target.app
        progress.phase(f"Checking the mount of the share in {app.provisioned.app}")
        state = run_cancellable(progress, app.get)
        mount = run_cancellable(progress, lambda: _read_mount(app, state))
        key = run_cancellable(progress, lambda: _current_key(app))
        failed = run_cancellable(progress, lambda: _failed_mounts(app, progress))
        reason = _reason(failed, _last_written(target.workspace, mount), key)
        if reason:
            progress.phase(f"Writing the current key of {mount.account} into the environment")
            _write_key(app, mount, key, progress)
            _save_written(target.workspace, mount, key)
        return Repair(
            state.name,
            mount.name,
            mount.account,
            reason or "this workspace wrote it, and no replica fails to mount the share",
            written=bool(reason),
            next_step=_next_step(failed, stopped=state.stopped),
        )


def _read_mount(app: ContainerApp, state: AppState) -> _StorageMount:
    """Return the storage that the app mounts. One request.

    Raises :class:`InvalidSettings` if the app mounts none, or one of another account than the config file's.
    """
    names = [str(one["storageName"]) for one in state.volumes if one.get("storageType") == "AzureFile"]
    if not names:
        raise InvalidSettings(
            f"The app {state.name} mounts no file share.",
            next_step="run provision(): it updates the app in place",
        )
    subscription, group, environment = parse_location(state.environment_id)
    with translate_errors(f"read the storage {names[0]} of the environment {environment}"):
        client: Any = app.cloud.containerapps(subscription)
        storage = client.managed_environments_storages.get(group, environment, names[0]).as_dict()
    mount = _StorageMount(state.environment_id, names[0], storage["properties"].get("azureFile") or {})
    account = app.provisioned.storage_account
    if mount.account.lower() != account.lower():
        raise InvalidSettings(
            f"The app {state.name} mounts the account {mount.account!r}, and the config file names "
            f"{account!r}.",
            next_step="correct STORAGE_ACCOUNT_NAME in infra/inference.config.json, or run provision()",
        )
    return mount


def _current_key(app: ContainerApp) -> _AccountKey:
    """Return the account's current key; keep it in memory only. Two requests.

    Raises :class:`Blocked` if the account refuses keys: then no key makes the mount work.
    """
    provisioned = app.provisioned
    account, group = provisioned.storage_account, provisioned.resource_group
    client: Any = app.cloud.storage(provisioned.subscription)
    with translate_errors(f"read the storage account {account}"):
        body: Json = client.storage_accounts.get_properties(group, account).as_dict()
    if (body.get("properties") or {}).get("allowSharedKeyAccess") is False:
        blocker = (
            f"The storage account {account} refuses its keys, and Container Apps can mount a share only "
            "with a key"
        )
        raise Blocked(
            f"{blocker}.",
            next_step='enable "Allow storage account key access" on its Configuration page, then run this '
            "again",
            blockers=[blocker],
        )
    with translate_errors(f"read the keys of the storage account {account}"):
        first = client.storage_accounts.list_keys(group, account).as_dict()["keys"][0]
    return _AccountKey(first["value"], str(first.get("creationTime") or ""))


def _write_key(app: ContainerApp, mount: _StorageMount, key: _AccountKey, progress: Progress) -> None:
    """Write a key into the environment storage. One PUT; nothing else of it changes."""
    subscription, group, environment = parse_location(mount.environment_id)
    client: Any = app.cloud.containerapps(subscription)
    file = {name: mount.file[name] for name in ("accountName", "shareName", "accessMode")}
    body = {"properties": {"azureFile": {**file, "accountKey": key.value}}}

    def begin() -> None:
        client.managed_environments_storages.create_or_update(group, environment, mount.name, body)

    change(
        mount.environment_id,
        f"write the storage {mount.name} of {environment}",
        begin,
        progress,
        retry_interval=app.cloud.poll_interval,
    )


def _failed_mounts(app: ContainerApp, progress: Progress) -> list[str]:
    """Return the replicas that Azure cannot start because their mount fails; wakes nothing."""
    waiting = {replica.name for replica in AppPoller(app).snapshot().live if not replica.running}
    if not waiting:
        return []
    failed = {
        event.replica
        for event in latest_events(app, progress)
        if is_mount_failure(f"{event.reason}: {event.message}")
    }
    return sorted(failed & waiting)


def _reason(failed: list[str], last_written: str | None, key: _AccountKey) -> str:
    """Return why the key must be written, an empty string if it need not."""
    if failed:
        return f"Azure cannot mount the share for {', '.join(failed)}"
    if last_written is None:
        return "the key in the environment is unknown"
    return "" if last_written == key.created else f"the key was rotated at {key.created[:19]}"


def _next_step(failed: list[str], *, stopped: bool) -> str:
    if failed:
        return (
            "waiting replicas mount the share within minutes, see status(); deploy() again if Azure failed "
            "the revision"
        )
    return "deploy() or rollback() starts the app, which is stopped" if stopped else ""


def _last_written(workspace: Workspace, mount: _StorageMount) -> str | None:
    """Return the creation time of the key that this workspace wrote last, None if unknown."""
    path = workspace.state / _STATE_FILE
    if not path.exists():
        return None
    try:
        found = read_object(path).get(mount.id.lower())
    except BrokenFile:
        return None  # an unknown key is written again
    return found if isinstance(found, str) else None


def _save_written(workspace: Workspace, mount: _StorageMount, key: _AccountKey) -> None:
    """Save the creation time of the key, and nothing of its value."""
    content = json.dumps({mount.id.lower(): key.created}, indent=2)
    write_atomically(workspace.state / _STATE_FILE, content.encode())
