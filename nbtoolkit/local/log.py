"""Read a rotating log file, and go on reading while it grows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress

FILE_BYTES = 5_000_000
OLD_FILES = 3
POLL = 0.1
"""Seconds between two looks for new lines."""
_BLOCK = 1 << 20


def tail(path: Path, lines: int | None) -> list[str]:
    """Return the last ``lines`` lines (None: all) of a log and its older files, oldest first."""
    reader = _Reader(path)
    try:
        return list(deque(reader.new_lines(), maxlen=lines))
    finally:
        reader.close()


def follow(path: Path, lines: int | None, running: Callable[[], bool], progress: Progress) -> Iterator[str]:
    """Yield the last lines, then new ones as they come, until nothing runs or ``progress`` is cancelled."""
    reader = _Reader(path)
    try:
        yield from deque(reader.new_lines(), maxlen=lines)
        while True:
            alive = running()  # asked first, so that the last lines of a server that ended are read
            yield from reader.new_lines()
            if not alive:
                return
            try:
                progress.sleep(POLL)
            except Cancelled:
                return
    finally:
        reader.close()


class _Reader:
    """Read a log from its oldest line on; holding the file open, it finds its place after a rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def new_lines(self) -> Iterator[str]:
        """Yield the whole lines that were written since the last call."""
        while True:
            if self._file is not None:
                yield from self._drain(self._file)
            newer = self._next()
            if newer is None:
                return
            if self._file is not None:
                yield from self._drain(self._file)  # what was written before the rotation
            self.close()
            self._file = newer

    def close(self) -> None:
        """Close the file that is being read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drain(self, file: IO[bytes]) -> Iterator[str]:
        while block := file.read(_BLOCK):
            *whole, self._rest = (self._rest + block).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _next(self) -> IO[bytes] | None:
        """Open the file that follows the present one, None where that is the newest."""
        files = self._open_all()
        present = None if self._file is None else _identity(self._file)
        places = [_identity(file) for file in files]
        place = places.index(present) + 1 if present in places else 0
        chosen = files[place] if place < len(files) else None
        for file in files:
            if file is not chosen:
                file.close()
        return chosen

    def _open_all(self) -> list[IO[bytes]]:
        """Open the log and its older files, oldest first.

        Files only ever grow older, so looking from the newest on misses none during a rotation; one may be
        met twice.
        """
        found: dict[tuple[int, int], IO[bytes]] = {}
        for path in [self._path, *(Path(f"{self._path}.{age}") for age in range(1, OLD_FILES + 1))]:
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue
            if found.setdefault(_identity(file), file) is not file:
                file.close()
        return list(reversed(found.values()))


def _identity(file: IO[bytes]) -> tuple[int, int]:
    about = os.fstat(file.fileno())
    return about.st_dev, about.st_ino
