"""Adapters and base models that lie only on the share: listed, fetched for a test, served where they lie.

Settings name them as the container sees them, ``/mount/models/...``, which is how fine-tuning reports them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path, PurePath

from nbtoolkit.errors import NotInStore, StoreError
from nbtoolkit.filestore import Entry, FileStore
from nbtoolkit.filestore.paths import join
from nbtoolkit.models.adapter import CONFIG as ADAPTER_CONFIG
from nbtoolkit.models.adapter import SERVED_FILES
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.base_model_files import CONFIG as BASE_CONFIG
from nbtoolkit.models.base_model_files import CONFIG_FILES, INDEX
from nbtoolkit.models.remote_base_model import describe_remote_base
from nbtoolkit.progress import Progress
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.workspace import Workspace

MOUNT = "/mount"
"""Where the container sees the share."""
ADAPTERS = "models"
BASES = "model-cache"
_DEPTH = 5
_FOLDERS = 500
_CHUNK = 8 << 20
_STATE = ".fetched.json"


def share_path(named: str | PurePath) -> str | None:
    """Return the path on the share that a setting names; None for a folder of this machine."""
    text = PurePath(named).as_posix() if isinstance(named, PurePath) else named.replace("\\", "/")
    if not text.startswith(f"{MOUNT}/") or Path(text).exists():
        return None
    return text.removeprefix(f"{MOUNT}/").strip("/")


def list_adapters(store: FileStore) -> list[str]:
    """Return every adapter's folder below ``models/``, as a setting names it; one request a folder."""
    return _found(store, ADAPTERS, ADAPTER_CONFIG)


def list_bases(store: FileStore) -> list[str]:
    """Return every base model's folder below ``model-cache/``, as a setting names it."""
    return _found(store, BASES, BASE_CONFIG)


def download_adapter(store: FileStore, path: str, workspace: Workspace, progress: Progress) -> Path:
    """Return a copy, in the workspace's cache, of the folder of an adapter that lies on the share.

    Only what changed there is fetched, and an interrupted fetch goes on. Raises :class:`NotInStore` naming
    the adapters that there are.
    """
    entries = _files(store, path, ADAPTER_CONFIG, "adapter", list_adapters)
    folder = _cache(store, path, workspace)
    _fetch(store, path, {e.name: e for e in entries if e.name in SERVED_FILES}, folder, progress)
    return folder


def download_base(store: FileStore, path: str, workspace: Workspace, progress: Progress) -> Base:
    """Return a base model that lies on the share, out of a whole copy: what a test loads.

    As :func:`fetch_adapter`; its gigabytes are fetched once.
    """
    entries = _files(store, path, BASE_CONFIG, "base model", list_bases)
    wanted = {e.name: e for e in entries if e.name.endswith(".safetensors") or e.name in _SMALL}
    folder = _cache(store, path, workspace)
    _fetch(store, path, wanted, folder, progress)
    return Base.read(folder)


def describe_base(store: FileStore, path: str, workspace: Workspace, progress: Progress) -> Base:
    """Return a base model as it lies on the share, for serving it there; its weights are not fetched."""
    entries = _files(store, path, BASE_CONFIG, "base model", list_bases)
    folder = _cache(store, path, workspace, "outlines")
    _fetch(store, path, {e.name: e for e in entries if e.name in _SMALL}, folder, progress)
    sizes = {entry.name: entry.size for entry in entries}

    def read(name: str, offset: int, length: int) -> bytes:
        progress.check()
        return store.read(join(path, name), offset, length)

    return describe_remote_base(folder, sizes, read)


_SMALL = (*CONFIG_FILES, INDEX)


def _found(store: FileStore, root: str, mark: str) -> list[str]:
    found: list[str] = []
    level = [root]
    seen = 0
    for _ in range(_DEPTH):
        below: list[str] = []
        for folder in level[: _FOLDERS - seen]:
            seen += 1
            entries = store.list(folder)
            if any(entry.name == mark for entry in entries):
                found.append(f"{MOUNT}/{folder}")
            below += [join(folder, entry.name) for entry in entries if entry.is_folder]
        level = below
    return sorted(found)


def _files(
    store: FileStore, path: str, mark: str, what: str, others: Callable[[FileStore], list[str]]
) -> list[Entry]:
    entries = [entry for entry in store.list(path) if not entry.is_folder]
    if not any(entry.name == mark for entry in entries):
        there = others(store)
        known = f"There are: {', '.join(there)}." if there else "There is none at all."
        raise NotInStore(
            f"{MOUNT}/{path} on the share is no {what}: it holds no {mark}. {known}",
            next_step=f"name one of them, or give a folder of this machine that holds the {what}",
            path=path,
        )
    return entries


def _cache(store: FileStore, path: str, workspace: Workspace, kind: str = "fetched") -> Path:
    place = hashlib.sha256(repr(store).encode()).hexdigest()[:8]
    folder = workspace.cache / kind / place / Path(*path.split("/"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(
    store: FileStore, path: str, wanted: Mapping[str, Entry], folder: Path, progress: Progress
) -> None:
    """Make a folder hold exactly the wanted files of a folder on the share."""
    state = _State(folder)
    for old in folder.iterdir():
        if old.is_file() and not _keep(old.name, wanted):
            old.unlink()
    missing = [entry for entry in wanted.values() if not state.has(entry)]
    total = float(sum(entry.size for entry in missing))
    done = 0.0
    if missing:
        progress.phase(f"Fetching {len(missing)} files of {MOUNT}/{path}")
    for entry in sorted(missing, key=lambda entry: entry.size):
        part = state.part(entry)
        with part.open("ab") as file:
            while file.tell() < entry.size:
                progress.advance(done + file.tell(), total, "B")
                piece = store.read(join(path, entry.name), file.tell(), min(_CHUNK, entry.size - file.tell()))
                if not piece:
                    raise _changed(path, entry.name)
                file.write(piece)
        now = next((e for e in store.list(path) if e.name == entry.name), None)
        if now != entry:
            part.unlink()
            raise _changed(path, entry.name)
        state.take(entry, part)
        done += entry.size


def _keep(name: str, wanted: Container[str]) -> bool:
    return name in wanted or name == _STATE or name.endswith(".part")


class _State:
    """What is known of the copies in a folder: the version on the share that each was made from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / _STATE
        try:
            self._versions: dict[str, str] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._versions = {}

    def has(self, entry: Entry) -> bool:
        """Tell whether the copy is whole and of this version."""
        copy = self._folder / entry.name
        return (
            bool(entry.version)
            and self._versions.get(entry.name) == entry.version
            and copy.is_file()
            and copy.stat().st_size == entry.size
        )

    def part(self, entry: Entry) -> Path:
        """Return the file that an interrupted fetch of this version goes on in."""
        mark = hashlib.sha256(f"{entry.version}\0{entry.size}".encode()).hexdigest()[:12]
        part = self._folder / f".{entry.name}.{mark}.part"
        for old in self._folder.glob(f".{entry.name}.*.part"):
            if old != part or not entry.version:
                old.unlink()
        return part

    def take(self, entry: Entry, part: Path) -> None:
        """Give a finished copy its name and remember its version."""
        part.replace(self._folder / entry.name)
        self._versions[entry.name] = entry.version
        write_atomically(self._path, json.dumps(self._versions).encode())


def _changed(path: str, name: str) -> StoreError:
    return StoreError(
        f"{MOUNT}/{path}/{name} changed on the share while it was being fetched.",
        next_step="let the program that writes it finish, then run the step again",
        path=join(path, name),
    )
