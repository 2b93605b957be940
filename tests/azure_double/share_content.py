"""The files and folders of one share, as plain files on disk that containers read too."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .share_answers import StorageError

GIB = 1 << 30
NORMAL = "Archive"
READ_ONLY = "ReadOnly"


@dataclass
class FileProperties:
    """Properties and metadata of a file."""

    attributes: str = NORMAL
    headers: dict[str, str] = field(default_factory=dict)
    """Content type and the like, as answered."""
    metadata: dict[str, str] = field(default_factory=dict)
    written: list[tuple[int, int]] = field(default_factory=list)
    """Sorted, disjoint ranges with data; ends are inclusive."""


class Share:
    """One share; paths are relative to it, with /."""

    def __init__(self, root: Path, quota: int = 5120) -> None:
        self.root = root
        self.quota = quota
        """GiB."""
        self.limit: int | None = None
        """Maximum of bytes, for tests of a full share."""
        self.metadata: dict[str, str] = {}
        self._facts: dict[str, FileProperties] = {}
        self._lock = threading.RLock()
        root.mkdir(parents=True, exist_ok=True)

    def file_properties(self, path: str) -> FileProperties:
        """Return the properties of a path; a file written by a container has one range."""
        with self._lock:
            known = self._facts.get(path)
            if known is None:
                known = self._facts[path] = FileProperties()
                place = self.root / path
                if place.is_file() and (size := place.stat().st_size):
                    known.written.append((0, size - 1))
            return known

    def stat(self, path: str, *, folder: bool) -> os.stat_result:
        """Return a file's or folder's state, or refuse as the service does."""
        about = self._lookup(path)
        if about is None:
            raise StorageError(404, "ResourceNotFound" if self._has_parent(path) else "ParentNotFound")
        if stat.S_ISDIR(about.st_mode) != folder:
            raise StorageError(
                409 if folder else 404, "ResourceTypeMismatch" if folder else "ResourceNotFound"
            )
        return about

    def parent(self, path: str) -> int:
        """Return the id of a path's folder; 0 is the root."""
        folder = path.rpartition("/")[0]
        return (self.root / folder).stat().st_ino if folder else 0

    def make_folder(self, path: str) -> os.stat_result:
        """Create a folder."""
        with self._lock:
            self._require_parent(path)
            about = self._lookup(path)
            if about is not None:
                folder = stat.S_ISDIR(about.st_mode)
                raise StorageError(409, "ResourceAlreadyExists" if folder else "ResourceTypeMismatch")
            (self.root / path).mkdir()
            self._facts[path] = FileProperties(attributes="Directory")
        return self.stat(path, folder=True)

    def delete_folder(self, path: str) -> None:
        """Delete an empty folder."""
        with self._lock:
            self.stat(path, folder=True)
            if any((self.root / path).iterdir()):
                raise StorageError(409, "DirectoryNotEmpty")
            (self.root / path).rmdir()
            self._facts.pop(path, None)

    def create(
        self, path: str, size: int, facts: FileProperties, data: bytes | bytearray = b""
    ) -> os.stat_result:
        """Create or replace a file of its full length; ranges without data read as zeros."""
        with self._lock:
            self._require_parent(path)
            about = self._lookup(path)
            if about is not None and stat.S_ISDIR(about.st_mode):
                raise StorageError(409, "ResourceTypeMismatch")
            if about is not None and READ_ONLY in self.file_properties(path).attributes:
                raise StorageError(409, "ReadOnlyAttribute")
            self._require_room(size)
            with (self.root / path).open("wb") as file:
                file.write(data)
                file.truncate(size)
            if data:
                facts.written = [(0, len(data) - 1)]
            self._facts[path] = facts
        return self.stat(path, folder=False)

    def put_range(self, path: str, start: int, data: bytes | bytearray) -> os.stat_result:
        """Write a range into a file; it must lie inside."""
        self._require_writable(path, start + len(data))
        descriptor = os.open(self.root / path, os.O_WRONLY)
        try:
            if os.pwrite(descriptor, data, start) != len(data):
                raise OSError("a range was written in part")
        finally:
            os.close(descriptor)
        with self._lock:
            facts = self.file_properties(path)
            facts.written = _merge_ranges([*facts.written, (start, start + len(data) - 1)])
        return self.stat(path, folder=False)

    def clear_range(self, path: str, start: int, end: int) -> os.stat_result:
        """Fill a range with zeros; ``end`` is inclusive."""
        self._require_writable(path, end + 1)
        with (self.root / path).open("r+b") as file:
            file.seek(start)
            file.write(bytes(end + 1 - start))
        with self._lock:
            facts = self.file_properties(path)
            facts.written = [part for span in facts.written for part in _subtract_range(span, start, end)]
        return self.stat(path, folder=False)

    def resize(self, path: str, size: int) -> None:
        """Change a file's length."""
        self.stat(path, folder=False)
        os.truncate(self.root / path, size)
        with self._lock:
            facts = self.file_properties(path)
            facts.written = [(start, min(end, size - 1)) for start, end in facts.written if start < size]

    def delete(self, path: str) -> None:
        """Delete a file."""
        with self._lock:
            self.stat(path, folder=False)
            if READ_ONLY in self.file_properties(path).attributes:
                raise StorageError(409, "ReadOnlyAttribute")
            (self.root / path).unlink()
            self._facts.pop(path, None)

    def rename(self, old: str, new: str, *, folder: bool, replace: bool, ignore_read_only: bool) -> None:
        """Rename a file or folder; the target is checked first."""
        with self._lock:
            self._require_parent(new)
            there = self._lookup(new)
            if there is not None:
                if not replace:
                    raise StorageError(409, "ResourceAlreadyExists")
                if stat.S_ISDIR(there.st_mode) or folder:
                    raise StorageError(409, "ResourceTypeMismatch" if not folder else "ResourceAlreadyExists")
                if READ_ONLY in self.file_properties(new).attributes and not ignore_read_only:
                    raise StorageError(409, "ReadOnlyAttribute")
            self.stat(old, folder=folder)
            (self.root / old).replace(self.root / new)
            moved = [path for path in self._facts if path == old or path.startswith(f"{old}/")]
            for path in moved:
                self._facts[new + path[len(old) :]] = self._facts.pop(path)

    def list(self, folder: str) -> list[tuple[str, os.stat_result]]:
        """Return a folder's entries by name."""
        if folder:
            self.stat(folder, folder=True)
        return sorted(_entries(self.root / folder), key=lambda found: found[0].upper())

    def used(self) -> int:
        """Return the bytes of all files."""
        return sum(place.stat().st_size for place in self.root.rglob("*") if place.is_file())

    def _lookup(self, path: str) -> os.stat_result | None:
        try:
            return (self.root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _has_parent(self, path: str) -> bool:
        return (self.root / path).parent.is_dir()

    def _require_parent(self, path: str) -> None:
        if not self._has_parent(path):
            raise StorageError(404, "ParentNotFound")

    def _require_room(self, size: int) -> None:
        if self.limit is not None and self.used() + size > self.limit:
            raise StorageError(413, "ShareSizeLimitReached")

    def _require_writable(self, path: str, end: int) -> None:
        if end > self.stat(path, folder=False).st_size:
            raise StorageError(416, "InvalidRange")
        if READ_ONLY in self.file_properties(path).attributes:
            raise StorageError(409, "ReadOnlyAttribute")


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as found:
        for item in found:
            try:
                yield item.name, item.stat()
            except FileNotFoundError:  # deleted since
                continue


def _merge_ranges(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _subtract_range(span: tuple[int, int], start: int, end: int) -> Iterator[tuple[int, int]]:
    if span[0] < start:
        yield span[0], min(span[1], start - 1)
    if span[1] > end:
        yield max(span[0], end + 1), span[1]
