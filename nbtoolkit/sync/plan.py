"""Compare files here with a folder of a store: what is there, what is missing, how many bytes."""

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
from nbtoolkit.sync.scan import files_of, refuse
from nbtoolkit.utils.threads import map_cancellable

SHOWN = 10
"""Missing files that a printed plan names."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to be at ``name`` below the prefix; ``sha256`` is None where it need not be known."""

    name: str
    source: Source
    size: int
    sha256: str | None = None
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync would do; printing it shows the missing files. Names are relative to ``prefix``."""

    prefix: str
    content_addressed: bool
    files: tuple[PlannedFile, ...]
    missing: tuple[PlannedFile, ...]
    missing_folders: tuple[str, ...] = ()
    """Parents first; "" is the prefix itself."""
    extra_files: tuple[str, ...] = ()
    extra_folders: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    """What killed writers left under temporary names."""
    manifest: Manifest = field(default_factory=lambda: Manifest(prefix=""))
    found: Mapping[str, KnownFile] = field(default_factory=dict[str, KnownFile])
    """The unchanged files of a prefix that is not content-addressed, as the store lists them."""

    @property
    def bytes_total(self) -> int:
        """The size of all files."""
        return sum(file.size for file in self.files)

    @property
    def bytes_missing(self) -> int:
        """The size of what is to be sent."""
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
            there = f"{_files(len(self.files))} there ({readable(self.bytes_total)})"
            return f"{self.prefix}: nothing to send, {there}"
        return (
            f"{self.prefix}: {len(self.missing)} of {_files(len(self.files))} to send, "
            f"{readable(self.bytes_missing)} of {readable(self.bytes_total)}"
        )

    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [
            ("replace" if file.replaces else "send", file.name, f"  {readable(file.size)}")
            for file in self.missing
        ]
        rows += [("delete", name, "") for name in (*self.extra_files, *(f"{f}/" for f in self.extra_folders))]
        if len(rows) > SHOWN:
            return [*rows[: SHOWN - 1], ("…", f"and {len(rows) - SHOWN + 1} more", "")]
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
    """Compare a folder, or files by posix name, with what lies below ``prefix``; nothing is changed.

    A folder's ignored files are left out. In a ``content_addressed`` prefix a file of that name and size
    counts as there, since finished files are whole; elsewhere contents are compared by sha256, those on the
    store through the last sync's manifest. ``delete_extra`` plans to delete what else lies below the
    prefix. Costs one listing per folder, and a read of every local file that may have to be sent. Raises
    SyncRefused with the full list of what must not or cannot be sent.
    """
    check_path(prefix)
    files = files_of(sources) if isinstance(sources, Path) else dict(sources)
    origin = sources if isinstance(sources, Path) else prefix
    refuse(names.problems(files, prefix), origin)
    sizes = {name: _size(source, name) for name, source in files.items()}
    listing = _list(store, prefix, _folders(files), progress)
    there = {join(folder, e.name): e for folder, entries in listing.items() for e in entries}
    extra = [n for n, e in there.items() if _is_extra(n, e, files, listing)] if delete_extra else []
    refuse(_conflicts(files, listing, there, extra), origin)

    manifest = Manifest(prefix=prefix) if content_addressed else Manifest.read(store, prefix)
    settled = {n: there[n] for n, size in sizes.items() if n in there and there[n].size == size}

    def compare(name: str, passed: Sent) -> tuple[PlannedFile, KnownFile | None]:
        """Return the file as planned, and as it is known on the store if it is the same there."""
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
        if known is None or not known.still(entry):
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


def readable(count: int) -> str:
    """Return a number of bytes as people read it."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def _files(count: int) -> str:
    return "one file" if count == 1 else f"{count} files"


def _folders(files: Mapping[str, Source]) -> list[str]:
    """Return the folders that the files need, parents first; "" is the prefix."""
    found = {""}
    for name in files:
        while name := name.rpartition("/")[0]:
            found.add(name)
    return sorted(found, key=lambda folder: (folder.count("/") if folder else -1, folder))


def _list(
    store: FileStore, prefix: str, folders: list[str], progress: Progress | None
) -> dict[str, list[Entry]]:
    """List the folders that are there, level by level, one request each."""
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
    """Tell whether a dead writer left this, and none of the missing files can go on with it."""
    folder, _, last = name.rpartition("/")
    if not temp_names.is_abandoned(last):
        return False
    beside = (file for file in missing if file.name.rpartition("/")[0] == folder and file.sha256)
    return not any(temp_names.is_part_of(last, file.sha256 or "") for file in beside)


def _conflicts(
    files: Mapping[str, Source],
    listing: Mapping[str, list[Entry]],
    there: Mapping[str, Entry],
    extra: list[str],
) -> list[names.Problem]:
    """Return where a file here is a folder there, or the reverse, and it is not going to be deleted."""
    clashing = [(n, "is a folder there and a file here") for n in files if n in there and there[n].is_folder]
    clashing += [
        (folder, "is a file there and a folder here")
        for folder in _folders(files)
        if folder in there and folder not in listing
    ]
    return [(name, reason) for name, reason in clashing if name not in extra]


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
