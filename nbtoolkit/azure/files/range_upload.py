"""A big file on its way to a share, in ranges: many at once, and those left out that are already there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.files.concurrency import BUDGET, CANCEL_POLL, POOL
from nbtoolkit.azure.files.download import piece
from nbtoolkit.azure.files.upload_session import Writer
from nbtoolkit.errors import AlreadyExists, NotInStore, SyncRefused
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.filestore.chunked_io import CHUNK, Source

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.files.retry_policy import RetryState

Span = tuple[int, int]
"""Bytes of a file, the last one included."""

WINDOW = 12
"""Ranges of one file on their way at once: 48 MiB."""

_being_written: set[str] = set()
"""Temporary paths that this process writes now."""


def write_ranges(writer: Writer, source: Source, size: int, sha256: str | None, *, overwrite: bool) -> str:
    """Write a file of ``size`` bytes and return its sha256.

    What an interrupted write of the same ``sha256`` left is gone on with; where this one is interrupted,
    by a cancel too, what is there by then stays for the next.
    """
    temporary = writer.beside(temp_names.new(sha256=sha256))
    _being_written.add(temporary)
    try:
        there = _taken_up(writer, temporary, size, sha256) if sha256 else None
        if there is None:
            _create(writer, temporary, size)
        try:
            found = _send(writer, temporary, source, size, sha256, there or [])
        except _Foreign:
            _create(writer, temporary, size)
            found = _send(writer, temporary, source, size, sha256, [])
        writer.rename(temporary, writer.path, overwrite=overwrite)
    except BaseException as error:
        if sha256 is None or isinstance(error, (SyncRefused, AlreadyExists, NotInStore)):
            writer.remove(temporary)
        raise
    finally:
        _being_written.discard(temporary)
    return found


def _taken_up(writer: Writer, temporary: str, size: int, sha256: str) -> list[Span] | None:
    """Take over what an interrupted write left and return what it holds; None where there is nothing.

    It is taken by a rename, which is granted to one of many. What it holds is only thought to be of this
    content: its writer had not yet read its source to the end, and the name says what was expected.
    """
    for left in _left(writer, size, sha256):
        with suppress(NotInStore):  # somebody else has just taken it
            writer.rename(left, temporary, overwrite=False)
            spans = writer.ask(
                lambda share, tries: [*share.get_file_client(temporary).list_ranges(tries=tries)]
            )
            return [(span.start, span.end) for span in spans]
    return None


def _create(writer: Writer, path: str, size: int) -> None:
    """Create a file of that size, in place of one that is there."""
    writer.ask(lambda share, tries: share.get_file_client(path).create_file(size, tries=tries))


def _left(writer: Writer, size: int, sha256: str) -> list[str]:
    def request(share: ShareClient, tries: RetryState) -> list[Any]:
        return [*share.list_directories_and_files(writer.beside(""), temp_names.START, tries=tries)]

    return [
        writer.beside(item.name)
        for item in writer.ask(request)
        if temp_names.is_part_of(item.name, sha256)
        and item.size == size
        and (temp_names.is_abandoned(item.name) or _is_given_up(writer, item.name))
    ]


def _is_given_up(writer: Writer, name: str) -> bool:
    return temp_names.is_mine(name) and writer.beside(name) not in _being_written


def _send(
    writer: Writer, temporary: str, source: Source, size: int, sha256: str | None, there: list[Span]
) -> str:
    ranges = _Ranges(writer, temporary, there)
    try:
        found = streams.copy(source, ranges, name=writer.path, expected=sha256)
        ranges.finish()
    except _Foreign:
        writer.sent(-ranges.told)
        raise
    finally:
        ranges.give_up()
    if ranges.offset != size:
        raise streams.changed(writer.path)
    return found


class _Foreign(Exception):
    """What was taken over is of another content; never leaves this module."""


class _Ranges:
    """Takes the chunks of a file in order and sees that each is in its range.

    What is put there is checked by its MD5 on the way; what is there already is read back and compared, and
    raises _Foreign where it is something else.

    Before the next chunk is read there is memory for it: one share of the budget is always held for it,
    and goes over to the range that is put.
    """

    def __init__(self, writer: Writer, path: str, there: list[Span]) -> None:
        self.offset = 0
        self.told = 0
        self._writer = writer
        self._path = path
        self._there = there
        self._pending: dict[Future[None], int] = {}
        self._stop = threading.Event()
        writer.reserve(CHUNK)
        self._holds = True

    def write(self, data: bytes, /) -> None:
        """Take a chunk."""
        start, end = self.offset, self.offset + len(data) - 1
        self.offset = end + 1
        if any(first <= start and end <= last for first, last in self._there):
            # Without the chunk itself: what is read back takes its place in memory.
            work = partial(self._compare, start, len(data), hashlib.sha256(data).digest())
        else:
            work = partial(self._put, start, data)
        self._start(work, len(data))

    def _start(self, work: Callable[[], None], count: int) -> None:
        while len(self._pending) >= WINDOW:
            self._reap()
        future = POOL.submit(work)
        self._holds = False
        future.add_done_callback(lambda _: BUDGET.give_back(CHUNK))
        self._pending[future] = count
        while not BUDGET.take(CHUNK, CANCEL_POLL):
            self._reap()
        self._holds = True

    def finish(self) -> None:
        """Wait until all is there."""
        while self._pending:
            self._reap()

    def give_up(self) -> None:
        """End what still runs, begin nothing more, and hold no memory."""
        self._stop.set()
        for future in self._pending:
            future.cancel()
        if self._holds:
            self._holds = False
            BUDGET.give_back(CHUNK)

    def _compare(self, start: int, count: int, sha256: bytes) -> None:
        found, _, _ = piece(self._writer.access, self._path, start, count, self._stop)
        if hashlib.sha256(found).digest() != sha256:
            raise _Foreign

    def _put(self, start: int, data: bytes) -> None:
        def request(share: ShareClient, tries: RetryState) -> None:
            file = share.get_file_client(self._path)
            file.upload_range(data, start, len(data), validate_content="md5", tries=tries)

        self._writer.access.ask("write", self._writer.path, request, self._stop)

    def _reap(self) -> None:
        done = wait(self._pending, CANCEL_POLL, FIRST_COMPLETED).done
        if not done:
            self._writer.sent(0)
        for future in done:
            count = self._pending.pop(future)
            future.result()
            self.told += count
            self._writer.sent(count)
