"""Yield the app's log: its replicas' output and Azure's system events, merged by time.

Nothing here sends a request to the app's host name, so reading the log does not wake an app.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

from nbtoolkit.azure.logs.client import (
    LogSource,
    LogStreamClient,
    StreamEnded,
    StreamInterrupted,
    is_transient,
)
from nbtoolkit.azure.logs.log_analytics import log_query_page
from nbtoolkit.azure.logs.records import MAX_LINES, LogLine, SeenRecords, console_record, system_record
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import StartTask, event_loop, wait_cancellable

if TYPE_CHECKING:
    from nbtoolkit.azure.container_apps.app import ContainerApp

LogKind = Literal["console", "system"]
ListSources = Callable[[], list[LogSource]]
_STABLE_SECONDS = 10.0
"""Seconds after which an opened stream counts as one that worked."""
_MAX_PAUSE = 15.0
_POLL_INTERVAL = 0.1


@dataclass(frozen=True)
class FollowPolicy:
    """How to follow a log: times in seconds."""

    list_interval: float = 5.0
    """Between two lists of the replicas."""
    hold: float = 0.4
    """For which a new line waits for an older one of another replica."""
    max_failures: int = 6
    """Consecutive failures of a stream until the error is raised."""


def app_log(
    app: ContainerApp,
    kinds: Sequence[LogKind] = ("system", "console"),
    *,
    follow: bool = False,
    tail: int | None = MAX_LINES,
    progress: Progress | None = None,
    policy: FollowPolicy | None = None,
) -> Iterator[LogLine]:
    """Yield the last ``tail`` lines of each running replica and of the system events, then new ones.

    New ones come only with ``follow``. Azure keeps 300 lines of a replica for this (None: all of them).
    Following continues over interrupted streams, expired tokens and new replicas until ``progress`` is
    cancelled or the iterator is closed. If no replica runs, a note names the page with earlier lines. Raises
    :class:`AzureFailed`.
    """
    progress = progress or SILENT()
    tail = MAX_LINES if tail is None else max(0, min(tail, MAX_LINES))
    with event_loop(name="logs") as start:
        merger = _Merger(app, start, policy or FollowPolicy())
        sources = _sources(app, kinds)
        if "console" in kinds and not any(source.parse is console_record for source in sources):
            yield _no_replica(app)
        yield from merger.past(sources, tail, progress)
        if follow:
            yield from merger.new(lambda: _sources(app, kinds), tail, progress)


def pause_before_retry(attempts: int, retry_after: float | None = None) -> float:
    """Return the seconds before the next attempt; a stream that always ends at once is not opened often."""
    return min(_MAX_PAUSE, max(retry_after or 0.0, 0.125 * 2 ** min(attempts, 10)))


class _Merger:
    """Read each stream in a task of its own and merge their lines by time."""

    def __init__(self, app: ContainerApp, start: StartTask, policy: FollowPolicy) -> None:
        self._client = LogStreamClient(app)
        self._start = start
        self._policy = policy
        self._seen = defaultdict[str, SeenRecords](SeenRecords)
        self._tasks: dict[str, Future[None]] = {}
        self._arrived: SimpleQueue[tuple[datetime, int, float, LogLine]] = SimpleQueue()
        self._held: list[tuple[datetime, int, float, LogLine]] = []
        self._order = count()

    def past(self, sources: list[LogSource], tail: int, progress: Progress) -> Iterator[LogLine]:
        """Yield the last lines of all sources."""
        tasks = [self._start(self._read(source, tail, follow=False)) for source in sources] if tail else []
        wait_cancellable(progress, tasks)
        for task in tasks:
            task.result()
        yield from self._pop(hold=0)

    def new(self, list_sources: ListSources, tail: int, progress: Progress) -> Iterator[LogLine]:
        """Yield new lines of all sources, also of later ones, until cancelled."""
        tail = tail and MAX_LINES
        listed = float("-inf")
        while True:
            if time.monotonic() - listed >= self._policy.list_interval:
                self._follow_all(list_sources, tail, progress)
                listed, tail = time.monotonic(), MAX_LINES  # all lines of a later replica are new
            progress.sleep(_POLL_INTERVAL)
            for task in self._tasks.values():
                if task.done():
                    task.result()
            yield from self._pop(self._policy.hold)

    def _follow_all(self, list_sources: ListSources, tail: int, progress: Progress) -> None:
        try:
            sources = list_sources()
        except AzureFailed as error:
            if not is_transient(error):
                raise
            progress.note(f"cannot list the replicas now: {error.message}")
            return
        for source in sources:
            if source.url not in self._tasks or self._tasks[source.url].done():
                self._tasks[source.url] = self._start(self._read(source, tail, follow=True))

    async def _read(self, source: LogSource, tail: int, *, follow: bool) -> None:
        """Read a stream to its end; with ``follow`` open it again until its replica has ended."""
        failures = attempts = 0
        while True:
            began, retry_after = time.monotonic(), None
            try:
                await self._read_once(source, tail, follow)
                if not follow:
                    return
                failures = 0
            except StreamEnded:
                return
            except StreamInterrupted as error:
                failures, retry_after = failures + 1, error.retry_after
                if failures == self._policy.max_failures:
                    raise AzureFailed(
                        f"The log of {source.name} could not be read {failures} times in a row: {error}.",
                        next_step="try again, or read it in the portal's Log stream",
                        code="LogStreamCut",
                    ) from error
            if follow:
                tail = MAX_LINES
            if time.monotonic() - began > _STABLE_SECONDS:
                failures = attempts = 0
            attempts += 1
            await asyncio.sleep(pause_before_retry(attempts, retry_after))

    async def _read_once(self, source: LogSource, tail: int, follow: bool) -> None:
        seen = self._seen[source.url]
        seen.reopen()
        async with aclosing(self._client.records(source, tail=tail, follow=follow)) as records:
            async for record in records:
                if record.line is None:
                    if tail == 0:
                        seen.skip_before(record.at)
                elif seen.is_new(record):
                    self._put(record.line)
                    if seen.has_gap:
                        text = (
                            f"the stream of {source.name} was interrupted for more than {MAX_LINES} lines: "
                            "some are missing"
                        )
                        self._put(LogLine(record.at, source.name, text, "note"))

    def _put(self, line: LogLine) -> None:
        self._arrived.put((line.at, next(self._order), time.monotonic(), line))

    def _pop(self, hold: float) -> Iterator[LogLine]:
        """Yield the lines that arrived more than ``hold`` seconds ago, the oldest first."""
        while not self._arrived.empty():
            heapq.heappush(self._held, self._arrived.get())
        now = time.monotonic()
        while self._held and now - self._held[0][2] >= hold:
            yield heapq.heappop(self._held)[3]


def _sources(app: ContainerApp, kinds: Sequence[LogKind]) -> list[LogSource]:
    sources: list[LogSource] = []
    if "system" in kinds:
        state = app.get()
        sources += [LogSource(state.event_stream, state.name, system_record)] if state.event_stream else []
    if "console" in kinds:
        sources += [
            LogSource(container.log_stream, replica.name, console_record)
            for replicas in app.replicas_by_revision().values()
            for replica in replicas
            for container in replica.containers
            if container.log_stream
        ]
    return sources


def _no_replica(app: ContainerApp) -> LogLine:
    stopped = app.get().stopped
    reason = "the app is stopped" if stopped else "the app is scaled to zero, and reading does not wake it"
    text = f"No replica runs: {reason}. Earlier lines: {log_query_page(app)}"
    return LogLine(datetime.now(UTC), app.provisioned.app, text, "note")
