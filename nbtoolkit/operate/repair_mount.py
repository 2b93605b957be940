"""Write the storage account's current key into the environment after the key was rotated.

Azure never returns the key of an environment's storage, so a rotated key shows only when a mount fails.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

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
        storage, file = run_cancellable(progress, lambda: _read_mount(app, state))
        account, storage_id = file["accountName"], f"{state.environment_id}/storages/{storage}".lower()
        key, created = run_cancellable(progress, lambda: _current_key(app))
        failed = run_cancellable(progress, lambda: _failed_mounts(app, progress))
        state_file = target.workspace.state / "azure-mounts.json"
        try:
            written = read_object(state_file).get(storage_id)
        except BrokenFile:
            written = None  # an unknown key is written again
        reason = next_step = ""
        if failed:
            reason = f"Azure cannot mount the share for {', '.join(failed)}"
            next_step = (
                "waiting replicas mount the share within minutes, see status(); deploy() again if Azure "
                "failed the revision"
            )
        elif written is None:
            reason = "the key in the environment is unknown"
        elif written != created:
            reason = f"the key was rotated at {created[:19]}"
        if state.stopped and not failed:
            next_step = "deploy() or rollback() starts the app, which is stopped"
        if reason:
            progress.phase(f"Writing the current key of {account} into the environment")
            _write_key(app, state.environment_id, storage, file, key, progress)
            # the creation time of the key, and nothing of its value
            write_atomically(state_file, json.dumps({storage_id: created}, indent=2).encode())
        return Repair(
            state.name,
            storage,
            account,
            reason or "this workspace wrote it, and no replica fails to mount the share",
            written=bool(reason),
            next_step=next_step,
        )


def _read_mount(app: ContainerApp, state: AppState) -> tuple[str, Json]:
    """Return the storage that the app mounts, with account, share and access mode as JSON. One request.

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
    file: Json = storage["properties"].get("azureFile") or {}
    mounted, account = str(file.get("accountName")), app.provisioned.storage_account
    if mounted.lower() != account.lower():
        raise InvalidSettings(
            f"The app {state.name} mounts the account {mounted!r}, and the config file names {account!r}.",
            next_step="correct STORAGE_ACCOUNT_NAME in infra/inference.config.json, or run provision()",
        )
    return names[0], file


def _current_key(app: ContainerApp) -> tuple[SecretStr, str]:
    """Return the account's current key, kept in memory only, and its creation time. Two requests.

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
    return SecretStr(first["value"]), str(first.get("creationTime") or "")


def _write_key(
    app: ContainerApp, environment_id: str, storage: str, file: Json, key: SecretStr, progress: Progress
) -> None:
    """Write a key into the environment storage. One PUT; nothing else of it changes."""
    subscription, group, environment = parse_location(environment_id)
    client: Any = app.cloud.containerapps(subscription)
    kept = {name: file[name] for name in ("accountName", "shareName", "accessMode")}

    def begin() -> None:
        body = {"properties": {"azureFile": {**kept, "accountKey": key.get_secret_value()}}}
        client.managed_environments_storages.create_or_update(group, environment, storage, body)

    change(
        environment_id,
        f"write the storage {storage} of {environment}",
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
