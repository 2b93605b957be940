"""Read and follow a rotating log file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress

FILE_BYTES = 5_000_000
OLD_FILES = 3
POLL = 0.1
"""Seconds between two polls for new lines."""
_BLOCK = 1 << 20


def tail(path: Path, lines: int | None) -> list[str]:
    """Return the last ``lines`` lines (None: all) of a log and its older files, oldest first."""
    with closing(_Reader(path)) as reader:
        return list(deque(reader.new_lines(), maxlen=lines))


def follow(path: Path, lines: int | None, running: Callable[[], bool], progress: Progress) -> Iterator[str]:
    """Yield the last lines, then new ones, until ``running`` is false or ``progress`` is cancelled."""
    with closing(_Reader(path)) as reader:
        yield from deque(reader.new_lines(), maxlen=lines)
        while True:
            alive = running()  # called first, so that the last lines of an ended server are read
            yield from reader.new_lines()
            if not alive:
                return
            try:
                progress.sleep(POLL)
            except Cancelled:
                return


class _Reader:
    """Read a log from its oldest line on; the open file marks the position across rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def new_lines(self) -> Iterator[str]:
        """Yield the complete lines written since the last call."""
        while True:
            yield from self._drain()
            newer = self._next()
            if newer is None:
                return
            yield from self._drain()  # lines written just before the rotation
            self.close()
            self._file = newer

    def close(self) -> None:
        """Close the open file."""
        if self._file:
            self._file.close()
            self._file = None

    def _drain(self) -> Iterator[str]:
        while self._file and (block := self._file.read(_BLOCK)):
            *whole, self._rest = (self._rest + block).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _next(self) -> IO[bytes] | None:
        """Open the file after the current one, or the oldest; None if the current one is the newest.

        A rotation only makes files older, so opening the newest first misses none; a file may come up twice.
        """
        current = _identity(self._file) if self._file else None
        newer: IO[bytes] | None = None
        for path in [self._path, *(Path(f"{self._path}.{age}") for age in range(1, OLD_FILES + 1))]:
            with suppress(FileNotFoundError):
                file = path.open("rb")
                if _identity(file) == current:
                    file.close()
                    break
                if newer:
                    newer.close()
                newer = file
        return newer


def _identity(file: IO[bytes]) -> tuple[int, int]:
    stat = os.fstat(file.fileno())
    return stat.st_dev, stat.st_ino
