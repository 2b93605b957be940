"""Threads that are in nobody's way: bounded in number, and one that hangs keeps no program from ending."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

IDLE = 30
"""Seconds after which a thread without work ends."""


class Lanes:
    """Run work in up to ``most`` daemon threads, started as they are needed."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queued: deque[Callable[[], None]] = deque()
        self._count = 0
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()
        """Held for whatever is read or written of the four above."""

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin work, in its turn, and return its future."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  it is raised to whoever asks the future
                future.set_exception(error)

        with self._changed:
            self._queued.append(run)
            more = len(self._queued) > self._idle and self._count < self._most
            self._count += more
            self._changed.notify()
        if more:
            threading.Thread(target=self._serve, name="nbtoolkit-lane", daemon=True).start()
        return future

    def close(self) -> None:
        """Let every thread end once it has nothing to do; nothing may be started any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self) -> None:
        while work := self._next():
            work()
            del work  # and what it holds, while this thread waits for more

    def _next(self) -> Callable[[], None] | None:
        """Return the next work; None where there is none for long, and this thread counts no more."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._queued or self._closed, IDLE)
            self._idle -= 1
            if self._queued:
                return self._queued.popleft()
            self._count -= 1
            return None
