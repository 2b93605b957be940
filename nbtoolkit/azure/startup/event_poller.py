"""Poll the app's system events in the background while a start waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.startup.timeline import StartupEvent
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import start_daemon

INTERVAL = 5.0
"""Seconds between two polls."""
LEASE = 60.0
"""Seconds after the last call of :meth:`EventPoller.latest` until polling ends."""
_TAIL = 100


class EventPoller:
    """Poll the latest system events from a daemon thread; there are none while reading fails."""

    def __init__(
        self, app: ContainerApp, read: Callable[[ContainerApp], Iterable[StartupEvent]] | None = None
    ) -> None:
        self._app = app
        self._read = read or latest_events
        self._events: Sequence[StartupEvent] = ()
        self._stopped = threading.Event()
        self._lease_end = time.monotonic() + LEASE

    def start(self) -> EventPoller:
        """Start polling."""
        start_daemon(self._run, name="events")
        return self

    def latest(self) -> Sequence[StartupEvent]:
        """Return the latest known events in order, and extend polling by :data:`LEASE` seconds."""
        self._lease_end = time.monotonic() + LEASE
        return self._events

    def stop(self) -> None:
        """Stop polling."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set() and time.monotonic() < self._lease_end:
            try:
                self._events = tuple(self._read(self._app))
            except NbtoolkitError:  # events are optional, and the next poll may succeed
                self._stopped.wait(INTERVAL)
            self._stopped.wait(INTERVAL)


def latest_events(app: ContainerApp, progress: Progress | None = None) -> tuple[StartupEvent, ...]:
    """Return the latest system events in order; three requests."""
    from nbtoolkit.azure.logs.stream import system_log

    lines = (line for line in system_log(app, tail=_TAIL, progress=progress) if line.kind == "system")
    return tuple(StartupEvent.from_text(line.source, line.text) for line in lines)
