"""Stage a release on a share and publish it.

All files of a release are complete before the release itself is written. The pointer is published last, by a
rename that never overwrites: a killed deploy does not change what is served, and of two concurrent deploys
exactly one wins.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from nbtoolkit.errors import AlreadyExists, NotInStore, ReleaseChanged, StoreError
from nbtoolkit.filestore import FileStore, make_folders, sweep
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases.staging import (
    put_once,
    stage_adapters,
    stage_base,
    stage_code,
    stage_reports,
    stage_wheels,
)
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Pointer
from nbtoolkit.sync import SyncResult

ATTEMPTS = 20
"""Pointer names that are tried; only an invalid pointer of another writer uses one up."""


def stage_release(
    store: FileStore,
    release: Release,
    adapters: Mapping[str, Adapter],
    code: Path,
    reports: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
    *,
    base: Base | None = None,
    wheels: Callable[[Progress], Mapping[str, Path]] | None = None,
) -> SyncResult:
    """Upload all files of a release to the share, the release itself last; nothing is published.

    ``adapters`` and ``reports`` (files) are keyed by the release's public names; missing ones must be on the
    share. ``code`` is the folder of the built-in or the custom server. ``wheels`` returns the files of the
    release's lock, and is called only if they are not on the share. Complete files are not sent again. Raises
    SyncRefused if files do not have the release's sha256, NotInStore if something is missing on both sides,
    StoreError, Cancelled.
    """
    progress = progress or SILENT()
    result = stage_base(store, release, base, progress)
    result += stage_adapters(store, release, adapters, progress)
    if wheels:
        result += stage_wheels(store, release, wheels, progress)
    result += stage_code(store, release, code, progress)
    result += stage_reports(store, release, reports or {}, progress)
    progress.check()
    content = release.model_dump_json(indent=2).encode()
    return result + put_once(store, share_layout.release_path(release.id), content)


def publish_release(store: FileStore, release_id: str, *, expected: int, by: str) -> Pointer:
    """Publish a staged release and return its pointer.

    ``expected`` is the number of the active pointer at the start of the deploy, 0 if there was none. Raises
    ReleaseChanged, with ``by``, ``release`` and ``n``, if another deploy published first, and NotInStore if
    the release was not staged. Costs about six requests.
    """
    read_release(store, release_id)
    for _ in range(ATTEMPTS):
        numbers = _numbers(store)
        current = _highest_valid(store, numbers)
        if current and current.n > expected:
            raise ReleaseChanged(
                f"{current.by} published {current.release} as number {current.n} at {current.at:%H:%M} UTC, "
                f"while {release_id} was being deployed; {release_id} was not published.",
                next_step="look at what they deployed, then deploy again if yours is to replace it",
                by=current.by,
                release=current.release,
                n=current.n,
            )
        n = max([expected, *numbers]) + 1
        pointer = Pointer(n=n, release=release_id, by=by, at=datetime.now(UTC))
        try:
            _write(store, share_layout.pointer_path(n), pointer.model_dump_json(indent=2).encode())
        except AlreadyExists:
            continue  # another deploy was first: read its pointer
        return pointer
    raise StoreError(
        f"No pointer could be written to {share_layout.ACTIVE} in {ATTEMPTS} attempts; none is valid.",
        next_step=f"find the program that writes to {share_layout.ACTIVE} on the share",
    )


def active_pointer(store: FileStore) -> Pointer | None:
    """Return the highest valid pointer, None if nothing was published. Two requests."""
    return _highest_valid(store, _numbers(store))


def pointer_history(store: FileStore) -> list[Pointer]:
    """Return all valid pointers, the oldest first. One request each."""
    pointers = (_read_pointer(store, n) for n in sorted(_numbers(store)))
    return [pointer for pointer in pointers if pointer]


def read_release(store: FileStore, release_id: str) -> Release:
    """Return a staged release; raises NotInStore if there is none, StoreError if it is damaged."""
    path = share_layout.release_path(release_id)
    try:
        release = Release.model_validate_json(store.read(path))
    except NotInStore as error:
        raise NotInStore(
            f"The share holds no release {release_id}.",
            next_step="deploy it, or choose one of those that history() lists",
            path=path,
        ) from error
    except ValidationError as error:
        raise StoreError(
            f"{path} on the share is damaged, or written by a newer nbtoolkit.",
            next_step="update nbtoolkit; if that does not help, delete the file and deploy again",
        ) from error
    if release.id != release_id:
        raise StoreError(
            f"{path} on the share holds {release.id} instead.",
            next_step="delete that file, then deploy again",
        )
    return release


def publisher_name(workspace: Path) -> str:
    """Return the publisher of a workspace: ``user@host:folder``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}:{workspace}"


def serving_folder() -> Path:
    """Return the folder of the built-in server, which is uploaded as code."""
    return Path(share_layout.__file__).parent


def _numbers(store: FileStore) -> list[int]:
    """Return the numbers of all pointers, valid or not; deletes temporary files of killed deploys."""
    entries = sweep(store, share_layout.ACTIVE)
    return [n for e in entries if not e.is_folder and (n := share_layout.pointer_number(e.name)) is not None]


def _highest_valid(store: FileStore, numbers: list[int]) -> Pointer | None:
    candidates = (_read_pointer(store, n) for n in sorted(numbers, reverse=True))
    return next((pointer for pointer in candidates if pointer), None)


def _read_pointer(store: FileStore, n: int) -> Pointer | None:
    try:
        pointer = Pointer.model_validate_json(store.read(share_layout.pointer_path(n)))
    except (NotInStore, ValidationError):
        return None
    return pointer if pointer.n == n else None


def _write(store: FileStore, path: str, content: bytes) -> None:
    try:
        store.write(path, content, overwrite=False)
    except NotInStore:  # the first pointer: creating its folder only now saves later ones a request
        make_folders(store, path.rpartition("/")[0])
        store.write(path, content, overwrite=False)
