"""The app's log, live: what its replicas print and what Azure does with them, merged by time.

Nothing here asks the app's host name, so a log never wakes an app that sleeps at zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nbtoolkit.azure.logs.client import MAX_LINES, LogSource
from nbtoolkit.azure.logs.log_analytics import log_query_page
from nbtoolkit.azure.logs.merger import ListSources, LogMerger
from nbtoolkit.azure.logs.records import LogLine, console_record, system_record
from nbtoolkit.progress import SILENT, Progress

if TYPE_CHECKING:
    from nbtoolkit.azure.container_apps.app import ContainerApp


def console_log(
    app: ContainerApp,
    replica: str | None = None,
    *,
    follow: bool = False,
    tail: int | None = MAX_LINES,
    progress: Progress | None = None,
) -> Iterator[LogLine]:
    """Yield the last ``tail`` lines of every running replica, or of one, then with ``follow`` new ones.

    Azure keeps 300 lines of a replica for this (None: all of them). Following goes on over cut streams,
    expired tokens and new replicas until ``progress`` is cancelled or the iterator closed. Where no replica
    runs, a note says so and where older lines are. Raises :class:`AzureFailed`.
    """

    def none_runs() -> LogLine:
        return _none_runs(app, replica)

    return _read(app, lambda: _replica_sources(app, replica), none_runs, follow, tail, progress)


def system_log(
    app: ContainerApp, *, follow: bool = False, tail: int | None = MAX_LINES, progress: Progress | None = None
) -> Iterator[LogLine]:
    """Yield what Azure did with the app's replicas lately, then with ``follow`` what it does."""
    return _read(app, lambda: _event_sources(app), None, follow, tail, progress)


def app_log(
    app: ContainerApp, *, follow: bool = False, tail: int | None = MAX_LINES, progress: Progress | None = None
) -> Iterator[LogLine]:
    """Yield both together in the order of time: :func:`console` and :func:`system`."""

    def find() -> list[LogSource]:
        return [*_event_sources(app), *_replica_sources(app, None)]

    return _read(app, find, lambda: _none_runs(app, None), follow, tail, progress)


def _replica_sources(app: ContainerApp, replica: str | None) -> list[LogSource]:
    return [
        LogSource(container.log_stream, one.name, console_record)
        for replicas in app.replicas_by_revision().values()
        for one in replicas
        for container in one.containers
        if container.log_stream and replica in (None, one.name)
    ]


def _event_sources(app: ContainerApp) -> list[LogSource]:
    state = app.get()
    return [LogSource(state.event_stream, state.name, system_record)] if state.event_stream else []


def _none_runs(app: ContainerApp, replica: str | None) -> LogLine:
    what = f"The replica {replica} does not run" if replica else "No replica runs"
    why = (
        "the app is stopped" if app.get().stopped else "the app sleeps at zero, and reading does not wake it"
    )
    text = f"{what}: {why}. What was printed before: {log_query_page(app)}"
    return LogLine(datetime.now(UTC), app.provisioned.app, text, "note")


def _read(
    app: ContainerApp,
    find: ListSources,
    if_none: Callable[[], LogLine] | None,
    follow: bool,
    tail: int | None,
    progress: Progress | None,
) -> Iterator[LogLine]:
    progress = progress or SILENT()
    tail = MAX_LINES if tail is None else max(0, min(tail, MAX_LINES))
    readers = LogMerger(app, tail)
    try:
        sources = find()
        if if_none and not any(source.read is console_record for source in sources):
            yield if_none()
        yield from readers.past(sources, progress)
        if follow:
            yield from readers.new(find, progress)
    finally:
        readers.close()
