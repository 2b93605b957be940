"""Read several of Azure's log streams at once, for as long as is wanted, in the order of time."""

from __future__ import annotations

import heapq
import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from nbtoolkit.azure.logs.client import (
    MAX_LINES,
    LogSource,
    LogStreamClient,
    SeenRecords,
    StreamEnded,
    StreamInterrupted,
    lost_lines,
    transient,
)
from nbtoolkit.azure.logs.records import LogLine
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress

if TYPE_CHECKING:
    from nbtoolkit.azure.container_apps.app import ContainerApp

TRIES = 6
"""How often in a row a stream may fail to open."""
RELIST = 5.0
"""Seconds between two looks for new replicas while following."""
HOLD = 0.4
"""Seconds for which a new line waits for an older one of another replica."""
_LONG = 10.0
"""Seconds after which a stream counts as one that worked."""
_LONGEST_WAIT = 15.0
_POLL = 0.1

ListSources = Callable[[], list[LogSource]]


class LogMerger:
    """One thread for each stream; what they read arrives here in the order of time."""

    def __init__(self, app: ContainerApp, tail: int) -> None:
        self._streams = LogStreamClient(app)
        self._tail = tail
        self._seen: dict[str, SeenRecords] = {}
        self._arrived: queue.SimpleQueue[LogLine | Exception] = queue.SimpleQueue()
        self._running: dict[str, threading.Thread] = {}
        self._held: list[tuple[datetime, int, float, LogLine]] = []
        self._count = 0

    def past(self, sources: list[LogSource], progress: Progress) -> Iterator[LogLine]:
        """Yield the last lines of all sources together."""
        if self._tail == 0:
            return
        for source in sources:
            self._start(source, self._read_past)
        while any(thread.is_alive() for thread in self._running.values()):
            progress.sleep(_POLL / 2)
        self._running.clear()
        self._collect()
        yield from self._due(0)

    def new(self, find: ListSources, progress: Progress) -> Iterator[LogLine]:
        """Yield new lines of all sources, those that appear later too, until cancelled."""
        look, tail = 0.0, self._tail and MAX_LINES
        while True:
            progress.check()
            if time.monotonic() >= look:
                for source in _found(find, progress):
                    thread = self._running.get(source.url)
                    if thread is None or not thread.is_alive():
                        self._start(source, partial(self._follow, tail))
                look, tail = time.monotonic() + RELIST, MAX_LINES  # of a later replica every line is new
            self._collect(_POLL)
            yield from self._due(HOLD)

    def close(self) -> None:
        """End all streams and the threads that read them."""
        self._streams.close()
        end = time.monotonic() + 1
        for thread in self._running.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self, source: LogSource, read: Callable[[LogSource, SeenRecords], None]) -> None:
        seen = self._seen.setdefault(source.url, SeenRecords())

        def run() -> None:
            try:
                read(source, seen)
            except Exception as error:  # noqa: BLE001  raised to whoever reads the lines
                self._arrived.put(error)

        thread = threading.Thread(target=run, name=f"log {source.name}", daemon=True)
        self._running[source.url] = thread
        thread.start()

    def _read_past(self, source: LogSource, seen: SeenRecords) -> None:
        self._trying(source, lambda: self._pass_on(source, seen, self._tail, follow=False), once=True)

    def _follow(self, tail: int, source: LogSource, seen: SeenRecords) -> None:
        def read() -> None:
            nonlocal tail
            at, tail = tail, MAX_LINES
            self._pass_on(source, seen, at, follow=True)

        self._trying(source, read, once=False)

    def _pass_on(self, source: LogSource, seen: SeenRecords, tail: int, *, follow: bool) -> None:
        seen.take_up()
        for record in self._streams.records(source, tail=tail, follow=follow):
            if record.line is None:
                if tail == 0:
                    seen.since(record.at)
            elif seen.is_new(record):
                self._arrived.put(record.line)
                if seen.lost:
                    self._arrived.put(lost_lines(source, record.at))

    def _trying(self, source: LogSource, read: Callable[[], None], *, once: bool) -> None:
        """Read a stream again and again, or ``once`` to its end; raise where it stays shut."""
        failures = restless = 0
        while not self._streams.closed.is_set():
            began, asked = time.monotonic(), 0.0
            try:
                read()
                failures = 0
                if once:
                    return
            except StreamEnded:
                return
            except StreamInterrupted as cut:
                failures, asked = failures + 1, cut.wait or 0.0
                if failures == TRIES and not self._streams.closed.is_set():
                    raise _shut(source, cut) from cut
            if time.monotonic() - began > _LONG:
                failures = restless = 0
            restless = min(restless + 1, 10)  # one that ends at once, as in a crash loop, is not rushed at
            self._streams.closed.wait(min(_LONGEST_WAIT, max(asked, 0.125 * 2**restless)))

    def _collect(self, wait: float = 0.0) -> None:
        """Take what arrived; raise an error that a reader met."""
        end = time.monotonic() + wait
        while True:
            try:
                arrived = self._arrived.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return
            if isinstance(arrived, Exception):
                raise arrived
            self._count += 1
            heapq.heappush(self._held, (arrived.at, self._count, time.monotonic(), arrived))
            if wait and time.monotonic() >= end:
                return

    def _due(self, hold: float) -> Iterator[LogLine]:
        """Yield the lines that need not wait any more for older ones."""
        now = time.monotonic()
        while self._held and now - self._held[0][2] >= hold:
            yield heapq.heappop(self._held)[3]


def _found(find: ListSources, progress: Progress) -> list[LogSource]:
    try:
        return find()
    except AzureFailed as error:
        if not transient(error):
            raise
        progress.note(f"cannot look for new replicas now: {error.message}")
        return []


def _shut(source: LogSource, cut: StreamInterrupted) -> AzureFailed:
    return AzureFailed(
        f"The log of {source.name} could not be read {TRIES} times in a row: {cut}.",
        next_step="try again, or read it in the portal's Log stream",
        code="LogStreamCut",
    )
