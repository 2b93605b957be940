"""A big file on its way to a share, in ranges: many at once, and those left out that are already there."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.lanes import BUDGET, LANES
from nbtoolkit.azure.share_writer import BEAT, Writer
from nbtoolkit.errors import AlreadyExists, NotInStore, SyncRefused
from nbtoolkit.filestore import streams, temp_names
from nbtoolkit.filestore.streams import CHUNK, Source

if TYPE_CHECKING:
    from azure.storage.fileshare import ShareClient

    from nbtoolkit.azure.patience import Tries

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
            writer.ask(lambda share, tries: share.get_file_client(temporary).create_file(size, tries=tries))
        found = _send(writer, temporary, source, size, sha256, there or [])
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

    It is taken by a rename, which is granted to one of many. What it holds was put there in whole ranges,
    each checked by its MD5: of a range that arrives in part nothing is written.
    """
    for left in _left(writer, size, sha256):
        with suppress(NotInStore):  # somebody else has just taken it
            writer.rename(left, temporary, overwrite=False)
            spans = writer.ask(
                lambda share, tries: [*share.get_file_client(temporary).list_ranges(tries=tries)]
            )
            return [(span.start, span.end) for span in spans]
    return None


def _left(writer: Writer, size: int, sha256: str) -> list[str]:
    def request(share: ShareClient, tries: Tries) -> list[Any]:
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
    finally:
        ranges.give_up()
    if ranges.offset != size:
        raise SyncRefused(
            f"{writer.path} changed while it was being sent.",
            next_step="let the program that writes it finish, then run the step again",
            name=writer.path,
        )
    return found


class _Ranges:
    """Takes the chunks of a file in order and puts each into its range.

    Before the next chunk is read there is memory for it: one share of the budget is always held for it,
    and goes over to the range that is put.
    """

    def __init__(self, writer: Writer, path: str, there: list[Span]) -> None:
        self.offset = 0
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
            self._writer.sent(len(data))
            return
        while len(self._pending) >= WINDOW:
            self._reap()
        future = LANES.start(lambda: self._put(data, start))
        self._holds = False
        future.add_done_callback(lambda _: BUDGET.give_back(CHUNK))
        self._pending[future] = len(data)
        while not BUDGET.take(CHUNK, BEAT):
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

    def _put(self, data: bytes, start: int) -> None:
        def request(share: ShareClient, tries: Tries) -> None:
            file = share.get_file_client(self._path)
            file.upload_range(data, start, len(data), validate_content="md5", tries=tries)

        self._writer.access.ask("write", self._writer.path, request, self._stop)

    def _reap(self) -> None:
        done = wait(self._pending, BEAT, FIRST_COMPLETED).done
        if not done:
            self._writer.sent(0)
        for future in done:
            count = self._pending.pop(future)
            future.result()
            self._writer.sent(count)
