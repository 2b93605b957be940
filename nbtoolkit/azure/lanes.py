"""Threads and memory for many requests at once: both bounded, neither in the way of a program's end."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

IDLE = 30
"""Seconds after which a thread without work ends."""
AHEAD = 8
"""Pieces of one file that are fetched ahead."""

Item = TypeVar("Item")


class Lanes:
    """Run work in up to ``most`` threads; what hangs in one of them keeps no program from ending."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._lock = threading.Lock()

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin work and return its future."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  it is raised to whoever asks the future
                future.set_exception(error)

        self._waiting.put(run)
        if not self._idle.acquire(blocking=False):
            with self._lock:
                more = self._count < self._most
                self._count += more
            if more:
                threading.Thread(target=self._serve, name="nbtoolkit-lane", daemon=True).start()
        return future

    def _serve(self) -> None:
        while True:
            try:
                work = self._waiting.get(timeout=IDLE)
            except queue.Empty:
                if self._idle.acquire(blocking=False):
                    break
                continue  # somebody counts on this thread: work is about to come
            work()
            del work
            self._idle.release()
        with self._lock:
            self._count -= 1


class Budget:
    """Bytes that may be held in memory by everything that is on its way."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    def take(self, count: int, timeout: float) -> bool:
        """Take so many bytes; False where they did not become free in so many seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= count, timeout):
                return False
            self._free -= count
            return True

    def give_back(self, count: int) -> None:
        """Free what was taken."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


LANES = Lanes(48)
"""For all requests of this process."""
BUDGET = Budget(96 << 20)
"""For all that is being sent by this process."""


def in_order(
    function: Callable[[Item], T], items: Sequence[Item], stop: threading.Event, ahead: int = AHEAD
) -> Iterator[T]:
    """Yield ``function(item)`` for every item in order, some worked out ahead; ``stop`` is set at the end."""
    running: deque[Future[T]] = deque()
    try:
        for item in items:
            running.append(LANES.start(lambda item=item: function(item)))
            if len(running) >= ahead:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        stop.set()
        for future in running:
            future.cancel()
