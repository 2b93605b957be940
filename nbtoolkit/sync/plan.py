"""Plan a sync: compare local files with a folder of a store."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import NotInStore
from nbtoolkit.filestore import (
    Entry,
    FileStore,
    check_path,
    chunked_io,
    join,
    make_folders,
    sweep,
    temp_files,
)
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.progress import Progress, Sent
from nbtoolkit.serving import share_layout
from nbtoolkit.sync import name_rules
from nbtoolkit.sync.scan import refuse_problems, scan_folder
from nbtoolkit.utils.threads import map_cancellable

MAX_SHOWN = 10
"""Missing files that a printed plan lists."""
MANIFESTS = f"{share_layout.ROOT}/synced"


class KnownFile(BaseModel):
    """A file of the store as it was after it was verified."""

    model_config = ConfigDict(frozen=True)

    size: int
    version: str = ""
    sha256: str = ""

    def matches(self, entry: Entry) -> bool:
        """Return whether the file is unchanged since; False if the store has no versions."""
        return bool(self.version) and (self.size, self.version) == (entry.size, entry.version)


class Manifest(BaseModel):
    """The files below one prefix after the last sync, so that the next one does not read unchanged files."""

    model_config = ConfigDict(frozen=True)

    prefix: str
    files: dict[str, KnownFile] = {}

    @classmethod
    def read(cls, store: FileStore, prefix: str) -> Manifest:
        """Return the manifest of this prefix; an empty one if it is missing or invalid. One request."""
        try:
            found = cls.model_validate_json(store.read(_manifest_path(prefix)))
        except (NotInStore, ValidationError):
            return cls(prefix=prefix)
        return found if found.prefix == prefix else cls(prefix=prefix)

    def save(self, store: FileStore) -> None:
        """Write the manifest; it only saves work, so the last writer wins."""
        if not sweep(store, MANIFESTS):
            make_folders(store, MANIFESTS)
        store.write(_manifest_path(self.prefix), self.model_dump_json().encode())


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to be at ``name`` below the prefix; ``sha256`` is "" if it is not needed."""

    name: str
    source: Source
    size: int
    sha256: str = ""
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The changes of a sync; printing it lists the missing files. Names are relative to ``prefix``."""

    prefix: str
    content_addressed: bool
    files: tuple[PlannedFile, ...]
    missing: tuple[PlannedFile, ...]
    missing_folders: tuple[str, ...] = ()
    """Parents first; "" is the prefix itself."""
    extra_files: tuple[str, ...] = ()
    extra_folders: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    """Temporary files of writers that were killed."""
    manifest: Manifest = field(default_factory=lambda: Manifest(prefix=""))
    found: Mapping[str, KnownFile] = field(default_factory=dict[str, KnownFile])
    """The unchanged files of a prefix that is not content-addressed, as the store lists them."""

    @property
    def bytes_total(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @property
    def bytes_missing(self) -> int:
        """The size of the files to be sent."""
        return sum(file.size for file in self.missing)

    def __str__(self) -> str:
        return "\n".join(
            [self._headline(), *(f"  {action:<7} {name}{size}" for action, name, size in self._rows())]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{action}</td><td>{html.escape(name)}</td><td>{size}</td></tr>"
            for action, name, size in self._rows()
        )
        return f"<p>{html.escape(self._headline())}</p><table>{cells}</table>"

    def _headline(self) -> str:
        if not self.missing and not self.extra_files and not self.extra_folders:
            there = f"{_files(len(self.files))} there ({format_bytes(self.bytes_total)})"
            return f"{self.prefix}: nothing to send, {there}"
        return (
            f"{self.prefix}: {len(self.missing)} of {_files(len(self.files))} to send, "
            f"{format_bytes(self.bytes_missing)} of {format_bytes(self.bytes_total)}"
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [
            ("replace" if file.replaces else "send", file.name, f"  {format_bytes(file.size)}")
            for file in self.missing
        ]
        rows += [("delete", name, "") for name in (*self.extra_files, *(f"{f}/" for f in self.extra_folders))]
        if len(rows) > MAX_SHOWN:
            return [*rows[: MAX_SHOWN - 1], ("…", f"and {len(rows) - MAX_SHOWN + 1} more", "")]
        return rows


def plan(
    sources: Path | Mapping[str, Source],
    store: FileStore,
    prefix: str,
    *,
    content_addressed: bool = False,
    delete_extra: bool = False,
    progress: Progress | None = None,
) -> SyncPlan:
    """Compare a folder, or files by posix name, with the files below ``prefix``; changes nothing.

    Ignored files of a folder are left out. In a ``content_addressed`` prefix a file of equal name and size
    counts as present, since finished files are complete. Elsewhere contents are compared by sha256, on the
    store through the manifest of the last sync. ``delete_extra`` plans to delete all other files below the
    prefix. Costs one listing per folder, and a read of every local file that may have to be sent. Raises
    SyncRefused with the full list of files that must not or cannot be sent.
    """
    check_path(prefix)
    files = scan_folder(sources) if isinstance(sources, Path) else dict(sources)
    origin = sources if isinstance(sources, Path) else prefix
    refuse_problems(name_rules.find_problems(files, prefix), origin)
    sizes = {name: chunked_io.size(source, name) for name, source in files.items()}
    folders = _folders(files)
    listing = _list_existing(store, prefix, folders, progress)
    existing = by_name(listing)
    extra = [n for n, e in existing.items() if _is_extra(n, e, files, listing)] if delete_extra else []
    refuse_problems(_conflicts(files, folders, listing, existing, extra), origin)

    manifest = Manifest(prefix=prefix) if content_addressed else Manifest.read(store, prefix)

    def compare(name: str, passed: Sent) -> tuple[PlannedFile, KnownFile | None]:
        """Return the planned file, and its entry on the store if that has the same content."""
        source, size, entry = files[name], sizes[name], existing.get(name)
        same_size = entry if entry and entry.size == size else None
        if same_size and content_addressed:
            return PlannedFile(name, source, size), KnownFile(size=size)
        with chunked_io.reading(source, name):
            sha256 = chunked_io.sha256(source, passed)
        planned = PlannedFile(name, source, size, sha256, replaces=entry is not None)
        if same_size is None:
            return planned, None
        known = manifest.files.get(name)
        if known is None or not known.matches(same_size):
            stored = store.sha256(join(prefix, name), passed)
            known = KnownFile(size=size, version=same_size.version, sha256=stored)
        return planned, known if known.sha256 == sha256 else None

    compared = map_cancellable(compare, sorted(files), progress=progress)
    missing = tuple(planned for planned, known in compared if known is None)
    return SyncPlan(
        prefix=prefix,
        content_addressed=content_addressed,
        files=tuple(planned for planned, _ in compared),
        missing=missing,
        missing_folders=tuple(f for f in folders if f not in listing or (f == "" and not existing)),
        extra_files=tuple(n for n in extra if not existing[n].is_folder),
        extra_folders=tuple(n for n in extra if existing[n].is_folder),
        leftovers=tuple(n for n in existing if _is_leftover(n, missing)),
        manifest=manifest,
        found={} if content_addressed else {planned.name: known for planned, known in compared if known},
    )


def format_bytes(count: int) -> str:
    """Return a number of bytes as text, such as 1.2 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count} files"


def _folders(files: Mapping[str, Source]) -> list[str]:
    """Return the folders of all files, parents first; "" is the prefix."""
    found = {""}
    for name in files:
        while name := name.rpartition("/")[0]:
            found.add(name)
    return sorted(found, key=lambda folder: (folder.count("/") if folder else -1, folder))


def list_folders(
    store: FileStore, prefix: str, folders: Sequence[str], progress: Progress | None
) -> dict[str, list[Entry]]:
    """Return the entries of folders below ``prefix``, one request each."""
    listed = map_cancellable(
        lambda folder, _: store.list(join(prefix, folder)),
        folders,
        progress=progress,
        workers=store.parallel,
    )
    return dict(zip(folders, listed, strict=True))


def by_name(listing: Mapping[str, list[Entry]]) -> dict[str, Entry]:
    """Return the entries of all listed folders by their name below the prefix."""
    return {join(folder, entry.name): entry for folder, entries in listing.items() for entry in entries}


def _list_existing(
    store: FileStore, prefix: str, folders: list[str], progress: Progress | None
) -> dict[str, list[Entry]]:
    """List the existing folders, level by level."""
    listing: dict[str, list[Entry]] = {}
    level = [""]
    while level:
        found = list_folders(store, prefix, level, progress)
        listing |= found
        existing = {name for name, entry in by_name(found).items() if entry.is_folder}
        level = [folder for folder in folders if folder in existing]
    return listing


def _is_extra(
    name: str, entry: Entry, files: Mapping[str, Source], listing: Mapping[str, list[Entry]]
) -> bool:
    if entry.is_folder:
        return name not in listing
    return name not in files and not temp_files.is_temporary(entry.name)


def _is_leftover(name: str, missing: tuple[PlannedFile, ...]) -> bool:
    """Return whether this is a temporary file of a dead writer that no missing file can resume."""
    folder, _, last = name.rpartition("/")
    if not temp_files.is_abandoned(last):  # first: every existing name is tested, and few are temporary
        return False
    siblings = (file for file in missing if file.name.rpartition("/")[0] == folder)
    return not any(temp_files.is_partial_upload_of(last, file.sha256) for file in siblings)


def _conflicts(
    files: Mapping[str, Source],
    folders: list[str],
    listing: Mapping[str, list[Entry]],
    existing: Mapping[str, Entry],
    extra: list[str],
) -> list[name_rules.Problem]:
    """Return names that are a file on one side and a folder on the other, and are not deleted."""
    clashes = [
        (n, "is a folder there and a file here") for n in files if n in existing and existing[n].is_folder
    ]
    clashes += [
        (folder, "is a file there and a folder here")
        for folder in folders
        if folder in existing and folder not in listing
    ]
    return [(name, reason) for name, reason in clashes if name not in extra]


def _manifest_path(prefix: str) -> str:
    return f"{MANIFESTS}/{prefix.replace('/', '--')}.json"
