"""Adapters and base models on the share: listed, downloaded for a test, described without a download.

Settings name them by their path in the container, ``/mount/models/...``, as fine-tuning reports them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType

from nbtoolkit.errors import BrokenFile, InvalidBase, NotInStore, StoreError
from nbtoolkit.filestore import Entry, FileStore, join
from nbtoolkit.models.adapter import CONFIG as ADAPTER_CONFIG
from nbtoolkit.models.base_model import Base, read_configs
from nbtoolkit.models.base_model_files import CONFIG as BASE_CONFIG
from nbtoolkit.models.base_model_files import (
    CONFIG_FILES,
    INDEX,
    base_identity,
    expected_weights,
    sampled_sha256,
)
from nbtoolkit.models.folder_names import public_name
from nbtoolkit.models.safetensors_header import TensorInfo, parse_header
from nbtoolkit.progress import Progress
from nbtoolkit.serving.content_hash import ADAPTER_FILES, TEMPLATES
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.workspace import Workspace

MOUNT = "/mount"
"""The mount path of the share in the container."""
ADAPTERS = "models"
BASES = "model-cache"
_MAX_DEPTH = 5
_MAX_FOLDERS = 500
CHUNK_SIZE = 8 << 20
_STATE = ".fetched.json"
"""The version on the share of each downloaded file."""
_SMALL_FILES = (*CONFIG_FILES, INDEX)


def share_path(path: str | PurePath) -> str | None:
    """Return the path on the share of a setting's value; None for a folder of this machine."""
    text = PurePath(path).as_posix() if isinstance(path, PurePath) else path.replace("\\", "/")
    if not text.startswith(f"{MOUNT}/") or Path(text).exists():
        return None
    return text.removeprefix(f"{MOUNT}/").strip("/")


def list_adapters(store: FileStore) -> list[str]:
    """Return the paths of all adapters below ``models/``, as settings name them; one request per folder."""
    return _list_models(store, ADAPTERS, ADAPTER_CONFIG)


def list_bases(store: FileStore) -> list[str]:
    """Return the paths of all base models below ``model-cache/``, as settings name them."""
    return _list_models(store, BASES, BASE_CONFIG)


def download_adapter(
    store: FileStore, path: str, workspace: Workspace, progress: Progress, *, chunk_size: int = CHUNK_SIZE
) -> Path:
    """Download an adapter from the share into the workspace's cache and return its folder.

    Only changed files are downloaded, and an interrupted download resumes. Raises :class:`NotInStore` that
    names the adapters on the share.
    """
    entries = _list_files(store, path, ADAPTER_CONFIG, "adapter", list_adapters)
    folder = _cache(store, path, workspace)
    served = {entry.name: entry for entry in entries if entry.name in ADAPTER_FILES}
    _download(store, path, served, folder, progress, chunk_size)
    _download_templates(store, path, folder, progress)
    return folder


def download_base(store: FileStore, path: str, workspace: Workspace, progress: Progress) -> Base:
    """Download a whole base model from the share, which a test loads; see :func:`download_adapter`."""
    entries = _list_files(store, path, BASE_CONFIG, "base model", list_bases)
    needed = {e.name: e for e in entries if e.name.endswith(".safetensors") or e.name in _SMALL_FILES}
    folder = _cache(store, path, workspace)
    _download(store, path, needed, folder, progress)
    _download_templates(store, path, folder, progress)
    return Base.read(folder)


def describe_base(store: FileStore, path: str, workspace: Workspace, progress: Progress) -> Base:
    """Return a base model that is served from the share; its weights are not downloaded.

    ``sha256`` is that of the whole folder; ``weights`` is empty. Costs the download of the small files and
    about twenty reads per weight file. Raises :class:`NotInStore` and :class:`InvalidBase`.
    """
    entries = _list_files(store, path, BASE_CONFIG, "base model", list_bases)
    folder = _cache(store, path, workspace, "outlines")
    _download(store, path, {e.name: e for e in entries if e.name in _SMALL_FILES}, folder, progress)
    _download_templates(store, path, folder, progress)
    sizes = {entry.name: entry.size for entry in entries}
    tensors: dict[str, TensorInfo] = {}
    samples: list[tuple[str, int, str]] = []
    try:
        config, generation_config = read_configs(folder)
        for name in expected_weights(folder, sizes.keys()):

            def read(offset: int, length: int, file: str = join(path, name)) -> bytes:
                progress.check()
                return store.read(file, offset, length)

            header = parse_header(folder / name, sizes[name], read)
            tensors.update(header.tensors)
            samples.append((name, sizes[name], sampled_sha256(header, read)))
    except BrokenFile as error:
        raise InvalidBase(
            f"The base model {folder.name}: {error.message}", next_step=error.next_step, path=folder
        ) from error
    base = Base(folder, public_name(folder), config, generation_config, MappingProxyType(tensors), ())
    base.__dict__["sha256"] = base_identity(folder, samples)  # cached_property reads it from there
    return base


def _list_models(store: FileStore, root: str, config: str) -> list[str]:
    models: list[str] = []
    level = [root]
    requests = 0
    for _ in range(_MAX_DEPTH):
        below: list[str] = []
        for folder in level[: _MAX_FOLDERS - requests]:
            requests += 1
            entries = store.list(folder)
            if any(entry.name == config for entry in entries):
                models.append(f"{MOUNT}/{folder}")
            below += [join(folder, entry.name) for entry in entries if entry.is_folder]
        level = below
    return sorted(models)


def _list_files(
    store: FileStore, path: str, config: str, kind: str, list_models: Callable[[FileStore], list[str]]
) -> list[Entry]:
    entries = [entry for entry in store.list(path) if not entry.is_folder]
    if not any(entry.name == config for entry in entries):
        models = list_models(store)
        known = f"The share has: {', '.join(models)}." if models else f"The share has no {kind}."
        raise NotInStore(
            f"{MOUNT}/{path} on the share is not a folder with a {kind}: it has no {config}. {known}",
            next_step=f"name one of them, or give a folder of this machine that contains the {kind}",
            path=path,
        )
    return entries


def _cache(store: FileStore, path: str, workspace: Workspace, kind: str = "fetched") -> Path:
    store_id = hashlib.sha256(repr(store).encode()).hexdigest()[:8]
    folder = workspace.cache / kind / store_id / Path(*path.split("/"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _download_templates(store: FileStore, path: str, folder: Path, progress: Progress) -> None:
    """Download the named chat templates of an adapter or a base; costs one request if there are none."""
    path, folder = join(path, TEMPLATES), folder / TEMPLATES
    entries = {entry.name: entry for entry in store.list(path) if entry.name.endswith(".jinja")}
    if entries or folder.is_dir():
        folder.mkdir(exist_ok=True)
        _download(store, path, entries, folder, progress)


def _download(
    store: FileStore,
    path: str,
    entries: Mapping[str, Entry],
    folder: Path,
    progress: Progress,
    chunk_size: int = CHUNK_SIZE,
) -> None:
    """Download ``entries`` from a folder of the share, and delete all other files in the local folder."""
    try:
        versions: dict[str, str] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        versions = {}
    for file in folder.iterdir():
        kept = file.name in entries or file.name == _STATE or file.suffix == ".part"
        if file.is_file() and not kept:
            file.unlink()
    missing = [entry for entry in entries.values() if not _is_complete(folder, entry, versions)]
    total = float(sum(entry.size for entry in missing))
    done = 0.0
    if missing:
        progress.phase(f"Downloading {len(missing)} files of {MOUNT}/{path}")
    for entry in sorted(missing, key=lambda entry: entry.size):
        part = _part_file(folder, entry)
        with part.open("ab") as file:
            while file.tell() < entry.size:
                progress.advance(done + file.tell(), total, "B")
                length = min(chunk_size, entry.size - file.tell())
                chunk = store.read(join(path, entry.name), file.tell(), length)
                if not chunk:
                    raise _changed(path, entry.name)
                file.write(chunk)
        now = next((e for e in store.list(path) if e.name == entry.name), None)
        if now != entry:
            part.unlink()
            raise _changed(path, entry.name)
        part.replace(folder / entry.name)
        versions[entry.name] = entry.version
        write_atomically(folder / _STATE, json.dumps(versions).encode())
        done += entry.size


def _is_complete(folder: Path, entry: Entry, versions: Mapping[str, str]) -> bool:
    file = folder / entry.name
    same_version = bool(entry.version) and versions.get(entry.name) == entry.version
    return same_version and file.is_file() and file.stat().st_size == entry.size


def _part_file(folder: Path, entry: Entry) -> Path:
    """Return the partial file of this version, in which an interrupted download resumes."""
    version = hashlib.sha256(f"{entry.version}\0{entry.size}".encode()).hexdigest()[:12]
    part = folder / f".{entry.name}.{version}.part"
    for old in folder.glob(f".{entry.name}.*.part"):
        if old != part or not entry.version:
            old.unlink()
    return part


def _changed(path: str, name: str) -> StoreError:
    return StoreError(
        f"{MOUNT}/{path}/{name} changed on the share during the download.",
        next_step="let the program that writes it finish, then run the step again",
        path=join(path, name),
    )
