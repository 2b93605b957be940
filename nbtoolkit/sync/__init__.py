"""Sync files to a folder of a store: plan what is missing, then send only that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from itertools import groupby
from operator import add
from pathlib import Path

from nbtoolkit.errors import AlreadyExists, StoreError
from nbtoolkit.filestore import FileStore, join, make_folders
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.progress import SILENT, Progress, Sent
from nbtoolkit.sync.plan import (
    KnownFile,
    Manifest,
    PlannedFile,
    SyncPlan,
    by_name,
    format_bytes,
    list_folders,
    plan,
)
from nbtoolkit.utils.threads import map_cancellable

__all__ = ["PlannedFile", "SyncPlan", "SyncResult", "apply", "plan", "sync"]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """Counts and duration of a sync; results can be added."""

    sent_files: int = 0
    sent_bytes: int = 0
    skipped_files: int = 0
    deleted: int = 0
    seconds: float = 0.0

    def __add__(self, other: SyncResult) -> SyncResult:
        return SyncResult(*map(add, astuple(self), astuple(other)))

    def __str__(self) -> str:
        deleted = f", {self.deleted} deleted" if self.deleted else ""
        return (
            f"{self.sent_files} files sent ({format_bytes(self.sent_bytes)}), "
            f"{self.skipped_files} already there{deleted}, {self.seconds:.1f} s"
        )


def sync(
    sources: Path | Mapping[str, Source],
    store: FileStore,
    prefix: str,
    *,
    content_addressed: bool = False,
    delete_extra: bool = False,
    progress: Progress | None = None,
) -> SyncResult:
    """Plan and apply in one call; see :func:`plan` and :func:`apply`."""
    planned = plan(
        sources,
        store,
        prefix,
        content_addressed=content_addressed,
        delete_extra=delete_extra,
        progress=progress,
    )
    return apply(planned, store, progress)


def apply(
    planned: SyncPlan, store: FileStore, progress: Progress | None = None, *, workers: int | None = None
) -> SyncResult:
    """Apply a plan, verify that every file has arrived, and return the counts.

    Folders are created once, parents first. Files are sent in parallel, as many at a time as suit the
    store, the largest first, each verified before its rename. Raises SyncRefused if a file changed since
    the plan, StoreError, and Cancelled; finished files stay and are not sent again.
    """
    progress = progress or SILENT()
    start = time.monotonic()
    _delete(planned, store, progress)
    _make_folders(planned, store, progress)
    if planned.missing:
        progress.phase(
            f"Sending {len(planned.missing)} files to {planned.prefix} "
            f"({format_bytes(planned.bytes_missing)})"
        )

    def send(file: PlannedFile, passed: Sent) -> bool:
        """Return False if another deploy sent the same file first."""
        path = join(planned.prefix, file.name)
        overwrite = file.replaces or not planned.content_addressed
        try:
            store.write(path, file.source, sha256=file.sha256, overwrite=overwrite, sent=passed)
        except AlreadyExists:
            return False
        return True

    largest_first = sorted(planned.missing, key=lambda file: -file.size)
    total = planned.bytes_missing
    parallel = workers or store.parallel
    sent = map_cancellable(send, largest_first, progress=progress, total=total, workers=parallel)
    _verify(planned, store, progress)
    written = [file for file, did in zip(largest_first, sent, strict=True) if did]
    return SyncResult(
        sent_files=len(written),
        sent_bytes=sum(file.size for file in written),
        skipped_files=len(planned.files) - len(written),
        deleted=len(planned.extra_files) + len(planned.extra_folders),
        seconds=time.monotonic() - start,
    )


def _delete(planned: SyncPlan, store: FileStore, progress: Progress) -> None:
    """Delete before files are sent, since an extra file may have the name of a folder."""
    paths = [join(planned.prefix, name) for name in (*planned.leftovers, *planned.extra_files)]
    map_cancellable(lambda path, _: store.delete(path), paths, progress=progress, workers=store.parallel)
    folders = [join(planned.prefix, name) for name in planned.extra_folders]
    map_cancellable(store.delete_folder, folders, progress=progress, workers=1)


def _make_folders(planned: SyncPlan, store: FileStore, progress: Progress) -> None:
    """Create missing folders, level by level."""
    if "" in planned.missing_folders:
        progress.check()
        make_folders(store, planned.prefix)
    below = [join(planned.prefix, folder) for folder in planned.missing_folders if folder]
    for _, level in groupby(below, key=lambda folder: folder.count("/")):
        map_cancellable(
            lambda folder, _: store.make_folder(folder), [*level], progress=progress, workers=store.parallel
        )


def _verify(planned: SyncPlan, store: FileStore, progress: Progress) -> None:
    """Verify that every sent file is on the store, and save the manifest for the next plan."""
    folders = sorted({file.name.rpartition("/")[0] for file in planned.missing})
    listing = list_folders(store, planned.prefix, folders, progress)
    arrived = {name: entry for name, entry in by_name(listing).items() if not entry.is_folder}
    lost = [f.name for f in planned.missing if f.name not in arrived or arrived[f.name].size != f.size]
    if lost:
        raise StoreError(
            f"After sending, {planned.prefix} lacks {', '.join(sorted(lost))}.",
            next_step="check whether another program writes there, then run the step again",
        )
    if planned.content_addressed:
        return
    sent = {
        f.name: KnownFile(size=f.size, version=arrived[f.name].version, sha256=f.sha256)
        for f in planned.missing
    }
    manifest = Manifest(prefix=planned.prefix, files={**planned.found, **sent})
    if manifest != planned.manifest:
        manifest.save(store)
