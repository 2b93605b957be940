"""What many requests at once may take of this process: threads and memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

from nbtoolkit.progress import Sent
from nbtoolkit.utils.threads import DaemonPool

T = TypeVar("T")
Item = TypeVar("Item")

CANCEL_POLL = 0.25
"""Seconds between two looks for a cancel."""
AHEAD = 8
"""Pieces of one file that are fetched ahead."""
REQUESTS = 32
"""Requests at once, beside those that small files make in their own threads."""


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


POOL = DaemonPool(REQUESTS)
"""For the ranges of big files and for folders that are deleted."""
BUDGET = Budget(64 << 20)
"""For all that is being sent."""


def in_order(
    function: Callable[[Item], T],
    items: Sequence[Item],
    stop: threading.Event,
    beat: Sent,
    ahead: int = AHEAD,
) -> Generator[T]:
    """Yield ``function(item)`` for every item in order, some worked out ahead.

    ``beat`` is told of 0 bytes now and then, and may raise. At the end, early or not, ``stop`` is set and
    nothing more is begun; who may leave early closes the iterator.
    """
    running: deque[Future[T]] = deque()

    def first() -> T:
        future = running.popleft()
        beat(0)
        while not wait([future], CANCEL_POLL).done:
            beat(0)
        return future.result()

    try:
        for item in items:
            running.append(POOL.submit(lambda item=item: function(item)))
            if len(running) >= ahead:
                yield first()
        while running:
            yield first()
    finally:
        stop.set()
        for future in running:
            future.cancel()
