"""Write the storage account's current key into the environment after the key was rotated."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nbtoolkit.azure.container_apps.storage_mount import (
    AccountKey,
    StorageMount,
    current_key,
    read_mount,
    write_key,
)
from nbtoolkit.azure.startup.mount_failures import failed_mounts
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.errors import BrokenFile
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
        mount = run_cancellable(progress, lambda: read_mount(app, state))
        key = run_cancellable(progress, lambda: current_key(app))
        failed = run_cancellable(progress, lambda: failed_mounts(app, progress))
        reason = _reason(failed, _last_written(target.workspace, mount), key)
        if reason:
            progress.phase(f"Writing the current key of {mount.account} into the environment")
            write_key(app, mount, key, progress)
            _save_written(target.workspace, mount, key)
        return Repair(
            state.name,
            mount.name,
            mount.account,
            reason or "this workspace wrote it, and no replica fails to mount the share",
            written=bool(reason),
            next_step=_next_step(failed, stopped=state.stopped),
        )


def _reason(failed: list[str], last_written: str | None, key: AccountKey) -> str:
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


def _last_written(workspace: Workspace, mount: StorageMount) -> str | None:
    """Return the creation time of the key that this workspace wrote last, None if unknown."""
    path = workspace.state / _STATE_FILE
    if not path.exists():
        return None
    try:
        found = read_object(path).get(mount.id.lower())
    except BrokenFile:
        return None  # an unknown key is written again
    return found if isinstance(found, str) else None


def _save_written(workspace: Workspace, mount: StorageMount, key: AccountKey) -> None:
    """Save the creation time of the key, and nothing of its value."""
    content = json.dumps({mount.id.lower(): key.created}, indent=2)
    write_atomically(workspace.state / _STATE_FILE, content.encode())
