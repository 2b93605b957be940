"""Give the environment the storage account's present key, after it was rotated."""

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

_NOTE = "azure-mounts.json"


@dataclass(frozen=True, repr=False)
class Repair(FactTable):
    """What became of the environment's key for the share, and why; the key is not kept."""

    app: str
    storage: str
    account: str
    reason: str
    written: bool
    next_step: str

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text, line by line."""
        what = (
            f"the environment's storage {self.storage} has the present key of {self.account}"
            if self.written
            else f"nothing: {self.storage} has the present key of {self.account}"
        )
        rows = [("repaired", what), ("because", self.reason)]
        return [*rows, ("next", self.next_step)] if self.next_step else rows


def repair(*, target: AzureTarget | None = None, progress: Progress | None = None) -> Repair:
    """Let replicas mount the share again after the storage account's key was rotated.

    Azure does not tell which key an environment holds. So the present one is written where a replica's mount
    fails, where the key is younger than what was written from here, or where nothing is known; one PUT, and
    no running replica ends. Again it finds that done. An app that sleeps is not woken. Raises
    :class:`Blocked` where the account refuses all keys, :class:`InvalidSettings`, :class:`AzureFailed`,
    :class:`Busy`.
    """
    progress = progress or SILENT()
    target = target or AzureTarget()
    with target.workspace.lock("repair", target=target.name):
        app = target.app
        progress.phase(f"Looking how {app.provisioned.app} mounts its share")
        now = run_cancellable(progress, app.get)
        mount = run_cancellable(progress, lambda: read_mount(app, now))
        key = run_cancellable(progress, lambda: current_key(app))
        failed = run_cancellable(progress, lambda: failed_mounts(app, progress))
        reason = _reason(failed, _recall(target.workspace, mount), key)
        if reason:
            progress.phase(f"Writing the present key of {mount.account} into the environment")
            write_key(app, mount, key, progress)
            _remember(target.workspace, mount, key)
        return Repair(
            now.name,
            mount.name,
            mount.account,
            reason or "it was written from here, and no replica fails to mount the share",
            written=bool(reason),
            next_step=_next_step(failed, stopped=now.stopped),
        )


def _reason(failed: list[str], known: str | None, key: AccountKey) -> str:
    """Return why the key is written, an empty text where it need not be."""
    if failed:
        return f"Azure cannot mount the share for {', '.join(failed)}"
    if known is None:
        return "which key it had is not known"
    return "" if known == key.created else f"the key was rotated at {key.created[:19]}"


def _next_step(failed: list[str], *, stopped: bool) -> str:
    if failed:
        return (
            "the replicas that wait mount it by themselves within minutes: see status(); deploy() again "
            "where Azure gave the revision up"
        )
    return "deploy() or rollback() starts the app, which is stopped" if stopped else ""


def _recall(workspace: Workspace, mount: StorageMount) -> str | None:
    """Return when the key was made that was written from here last, None where that is not known."""
    path = workspace.state / _NOTE
    if not path.exists():
        return None
    try:
        found = read_object(path).get(mount.id.lower())
    except BrokenFile:
        return None  # it is only a note: what is not known is written again
    return found if isinstance(found, str) else None


def _remember(workspace: Workspace, mount: StorageMount, key: AccountKey) -> None:
    """Note when the key was made; nothing of the key itself."""
    write_atomically(workspace.state / _NOTE, json.dumps({mount.id.lower(): key.created}, indent=2).encode())
