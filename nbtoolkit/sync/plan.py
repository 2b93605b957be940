"""Plan a sync: compare local files with a folder of a store."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbtoolkit.filestore import Entry, FileStore
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.filestore.paths import check_path, join
from nbtoolkit.progress import Progress, Sent
from nbtoolkit.sync import name_rules as names
from nbtoolkit.sync.manifest import KnownFile, Manifest
from nbtoolkit.sync.scan import refuse_problems, scan_folder
from nbtoolkit.utils.threads import map_cancellable

MAX_SHOWN = 10
"""Missing files that a printed plan lists."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to be at ``name`` below the prefix; ``sha256`` is None if it is not needed."""

    name: str
    source: Source
    size: int
    sha256: str | None = None
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
            [self._headline(), *(f"  {what:<7} {name}{size}" for what, name, size in self._rows())]
        )

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{what}</td><td>{html.escape(name)}</td><td>{size}</td></tr>"
            for what, name, size in self._rows()
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
    refuse_problems(names.find_problems(files, prefix), origin)
    sizes = {name: _size(source, name) for name, source in files.items()}
    listing = _list(store, prefix, _folders(files), progress)
    there = {join(folder, e.name): e for folder, entries in listing.items() for e in entries}
    extra = [n for n, e in there.items() if _is_extra(n, e, files, listing)] if delete_extra else []
    refuse_problems(_conflicts(files, listing, there, extra), origin)

    manifest = Manifest(prefix=prefix) if content_addressed else Manifest.read(store, prefix)
    settled = {n: there[n] for n, size in sizes.items() if n in there and there[n].size == size}

    def compare(name: str, passed: Sent) -> tuple[PlannedFile, KnownFile | None]:
        """Return the planned file, and its entry on the store if that has the same content."""
        entry = settled.get(name)
        if entry and content_addressed:
            return PlannedFile(name, files[name], sizes[name]), KnownFile(
                size=entry.size, version="", sha256=""
            )
        sha256 = _hash(files[name], name, passed)
        planned = PlannedFile(name, files[name], sizes[name], sha256, replaces=name in there)
        if entry is None:
            return planned, None
        known = manifest.files.get(name)
        if known is None or not known.matches(entry):
            there_sha256 = store.sha256(join(prefix, name), passed)
            known = KnownFile(size=entry.size, version=entry.version, sha256=there_sha256)
        return planned, known if known.sha256 == sha256 else None

    compared = map_cancellable(compare, sorted(files), progress=progress)
    missing = tuple(planned for planned, known in compared if known is None)
    return SyncPlan(
        prefix=prefix,
        content_addressed=content_addressed,
        files=tuple(planned for planned, _ in compared),
        missing=missing,
        missing_folders=tuple(f for f in _folders(files) if f not in listing or (f == "" and not there)),
        extra_files=tuple(n for n in extra if not there[n].is_folder),
        extra_folders=tuple(n for n in extra if there[n].is_folder),
        leftovers=tuple(n for n in there if _is_leftover(n, missing)),
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


def _list(
    store: FileStore, prefix: str, folders: list[str], progress: Progress | None
) -> dict[str, list[Entry]]:
    """List the existing folders, level by level, one request each."""
    listing: dict[str, list[Entry]] = {}
    level = [""]
    while level:
        found = map_cancellable(
            lambda folder, _: store.list(join(prefix, folder)),
            level,
            progress=progress,
            workers=store.parallel,
        )
        listing.update(zip(level, found, strict=True))
        there = {
            join(f, e.name) for f, entries in zip(level, found, strict=True) for e in entries if e.is_folder
        }
        level = [folder for folder in folders if folder in there]
    return listing


def _is_extra(
    name: str, entry: Entry, files: Mapping[str, Source], listing: Mapping[str, list[Entry]]
) -> bool:
    if entry.is_folder:
        return name not in listing
    return name not in files and not temp_names.is_temporary(entry.name)


def _is_leftover(name: str, missing: tuple[PlannedFile, ...]) -> bool:
    """Return whether this is a temporary file of a dead writer that no missing file can resume."""
    folder, _, last = name.rpartition("/")
    if not temp_names.is_abandoned(last):
        return False
    siblings = (file for file in missing if file.name.rpartition("/")[0] == folder and file.sha256)
    return not any(temp_names.is_partial_upload_of(last, file.sha256 or "") for file in siblings)


def _conflicts(
    files: Mapping[str, Source],
    listing: Mapping[str, list[Entry]],
    there: Mapping[str, Entry],
    extra: list[str],
) -> list[names.Problem]:
    """Return names that are a file on one side and a folder on the other, and are not deleted."""
    clashes = [(n, "is a folder there and a file here") for n in files if n in there and there[n].is_folder]
    clashes += [
        (folder, "is a file there and a folder here")
        for folder in _folders(files)
        if folder in there and folder not in listing
    ]
    return [(name, reason) for name, reason in clashes if name not in extra]


def _size(source: Source, name: str) -> int:
    try:
        return streams.size(source)
    except OSError as error:
        raise streams.unreadable(name, source, error) from error


def _hash(source: Source, name: str, passed: Sent) -> str:
    try:
        return streams.sha256(source, passed)
    except OSError as error:
        raise streams.unreadable(name, source, error) from error
