"""Upload the parts of a release to the share, each verified against its sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError, SyncRefused
from nbtoolkit.filestore import FileStore, join, make_folders, sweep
from nbtoolkit.models.adapter import CONFIG, Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.base_model_files import CONFIG as BASE_CONFIG
from nbtoolkit.progress import Progress
from nbtoolkit.serving import content_hash, share_layout
from nbtoolkit.serving.release import Release
from nbtoolkit.sync import SyncResult, apply, plan, sync
from nbtoolkit.sync.scan import check_files, scan_folder

WHEELS_LOCK = "requirements.txt"
"""The lock's name next to its wheels; its sha256 names the folder."""


def stage_adapters(
    store: FileStore, release: Release, adapters: Mapping[str, Adapter], progress: Progress
) -> SyncResult:
    """Upload the adapters that are not on the share; those served in place must exist."""
    result = SyncResult()
    for served in release.adapters:
        adapter = adapters.get(served.name)
        if adapter is None or served.path != share_layout.adapter_path(served.sha256):
            label = f"The adapter {served.name} is not on the share, at {served.path},"
            next_step = "give the adapter's folder, or correct the path on the share"
            _require(store, join(served.path, CONFIG), label, next_step, served.path)
            continue
        files = adapter.named_files
        check_files(files, adapter.path)
        current_sha256 = partial(content_hash.folder_sha256, files)
        label = f"The adapter {adapter.path}"
        result += _send(store, files, served.path, served.sha256, current_sha256, label, progress)
    return result


def stage_base(store: FileStore, release: Release, base: Base | None, progress: Progress) -> SyncResult:
    """Upload the base model if its path is content-addressed; otherwise it is used in place."""
    served = release.base
    if served is None or served.path != share_layout.base_path(served.sha256):
        return SyncResult()
    if base is None:
        label = f"The base model {served.name} is not on the share, at {served.path},"
        next_step = "deploy again with the base model's folder"
        _require(store, join(served.path, BASE_CONFIG), label, next_step, served.path)
        return SyncResult()
    files = {file.relative_to(base.path).as_posix(): file for file in (*base.files, *base.weights)}
    check_files(files, base.path)
    label = f"The base model {base.path}"
    return _send(
        store, files, served.path, served.sha256, lambda: Base.read(base.path).sha256, label, progress
    )


def stage_wheels(
    store: FileStore, release: Release, wheels: Callable[[Progress], Mapping[str, Path]], progress: Progress
) -> SyncResult:
    """Upload the wheels of the server's lock; ``wheels`` is called only if one is missing.

    The lock itself arrives last and says that its folder is complete.
    """
    sha256 = release.code.wheels_sha256
    if sha256 is None:
        return SyncResult()
    folder = share_layout.wheels_path(sha256)
    if any(entry.name == WHEELS_LOCK for entry in store.list(folder)):
        return SyncResult()
    files = dict(wheels(progress))
    lock = {WHEELS_LOCK: files.pop(WHEELS_LOCK)}
    result = sync(files, store, folder, content_addressed=True, progress=progress)
    return result + sync(lock, store, folder, content_addressed=True, progress=progress)


def stage_code(store: FileStore, release: Release, code: Path, progress: Progress) -> SyncResult:
    """Upload the server's code to its content-addressed folder, or a custom server to ``inference/``.

    A custom server is updated in place: only changed files are sent, and nothing is deleted.
    """
    sha256 = release.code.sha256
    if release.code.kind == "own":
        planned = plan(code, store, share_layout.OWN, progress=progress)
        if custom_server_sha256(code) != sha256:
            raise _changed(f"The code in {code}", sha256)
        return apply(planned, store, progress)
    files = content_hash.code_files(code)
    check_files(files, code)
    named = {join(share_layout.CODE_PACKAGE, name): path for name, path in files.items()}
    current_sha256 = partial(content_hash.folder_sha256, files)
    prefix, label = share_layout.code_path(sha256), f"The code in {code}"
    return _send(store, named, prefix, sha256, current_sha256, label, progress)


def custom_server_sha256(folder: Path) -> str:
    """Return the sha256 over all files of a custom server that are sent."""
    return content_hash.folder_sha256(scan_folder(folder))


def stage_reports(
    store: FileStore, release: Release, reports: Mapping[str, Path], progress: Progress
) -> SyncResult:
    """Upload the smoke reports, which contain the fingerprints."""
    result = SyncResult()
    for name, sha256 in release.reports.items():
        progress.check()
        path = share_layout.report_path(sha256)
        if name not in reports:
            label = f"The smoke report of {name} is not on the share"
            _require(store, path, label, "run the smoke test again, then deploy", path)
            continue
        content = _read(reports[name], name)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise _changed(f"The smoke report {reports[name]}", sha256)
        result += put_once(store, path, content)
    return result


def put_once(store: FileStore, path: str, content: bytes) -> SyncResult:
    """Write an immutable file; does nothing if it has this content, raises StoreError if it differs."""
    folder, _, name = path.rpartition("/")
    entries = sweep(store, folder)
    if not any(entry.name == name for entry in entries):
        if not entries:
            make_folders(store, folder)
        try:
            store.write(path, content, overwrite=False)
        except AlreadyExists:
            pass  # another deploy of the same release was first: compare below
        else:
            return SyncResult(sent_files=1, sent_bytes=len(content))
    if store.read(path) != content:
        raise StoreError(
            f"{path} on the share is immutable, but has other content.",
            next_step="it was edited there: delete it on the share, then deploy again",
            path=path,
        )
    return SyncResult(skipped_files=1)


def _send(
    store: FileStore,
    files: Mapping[str, Path],
    prefix: str,
    sha256: str,
    current_sha256: Callable[[], str],
    label: str,
    progress: Progress,
) -> SyncResult:
    """Upload files to a content-addressed folder; ``current_sha256`` hashes what they contain now."""
    planned = plan(files, store, prefix, content_addressed=True, progress=progress)
    # After the plan, which has the hash of every file to send: a later change is detected during the upload.
    if planned.missing and current_sha256() != sha256:
        raise _changed(label, sha256)
    return apply(planned, store, progress)


def _require(store: FileStore, file: str, label: str, next_step: str, path: str) -> None:
    """Raise NotInStore, which names ``path``, if the share has no ``file``."""
    folder, _, name = file.rpartition("/")
    if not any(entry.name == name for entry in store.list(folder)):
        raise NotInStore(f"{label} and was not given.", next_step=next_step, path=path)


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SyncRefused(
            f"The smoke report of {name} cannot be read from {path}: {error.strerror or error}.",
            next_step="run the smoke test again, then deploy",
        ) from error


def _changed(label: str, sha256: str) -> SyncRefused:
    return SyncRefused(
        f"{label} changed since the release was built: its sha256 is no longer {sha256[:16]}….",
        next_step="let the program that writes it finish, then deploy again",
    )
