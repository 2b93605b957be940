"""Collect the app's system events beside a wait that does not depend on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from nbtoolkit.azure.startup.timeline import StartupEvent
from nbtoolkit.errors import NbtoolkitError

if TYPE_CHECKING:
    from nbtoolkit.azure.container_apps.app import App
    from nbtoolkit.azure.logs.records import LogLine

INTERVAL = 5.0
"""Seconds between two looks."""
LEASE = 60.0
"""Seconds until a collector that nobody asks any more ends."""
_TAIL = 100


class EventPoller:
    """Read the last system events now and then, from a thread of its own; where that fails there are none."""

    def __init__(self, app: App, read: Callable[[App], Iterable[LogLine]] | None = None) -> None:
        self._app = app
        self._read = read or _lines
        self._found: Sequence[StartupEvent] = ()
        self._ended = threading.Event()
        self._until = time.monotonic() + LEASE
        self._thread = threading.Thread(target=self._run, name="nbtoolkit-events", daemon=True)

    def start(self) -> EventPoller:
        """Begin to collect."""
        self._thread.start()
        return self

    def latest(self) -> Sequence[StartupEvent]:
        """Return the newest events known, in order, and go on collecting for another minute."""
        self._until = time.monotonic() + LEASE
        return self._found

    def end(self) -> None:
        """Collect no more."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set() and time.monotonic() < self._until:
            try:
                self._found = _events(self._read(self._app))
            except NbtoolkitError:  # the wait goes on without them, and the next look may do better
                self._ended.wait(INTERVAL)
            self._ended.wait(INTERVAL)


def latest_events(app: App) -> tuple[StartupEvent, ...]:
    """Return the last system events, in order; three requests."""
    return _events(_lines(app))


def _events(lines: Iterable[LogLine]) -> tuple[StartupEvent, ...]:
    return tuple(_event(line) for line in lines if line.kind == "system")


def _lines(app: App) -> Iterable[LogLine]:
    from nbtoolkit.azure.logs.stream import system

    return system(app, tail=_TAIL)


def _event(line: LogLine) -> StartupEvent:
    reason, _, message = line.text.partition(": ")
    return StartupEvent(line.source, reason, message)
