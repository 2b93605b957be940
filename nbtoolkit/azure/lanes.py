"""What many requests at once may take of this process: threads and memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from nbtoolkit.sync.lanes import Lanes

T = TypeVar("T")
Item = TypeVar("Item")

AHEAD = 8
"""Pieces of one file that are fetched ahead."""


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


LANES = Lanes(32)
"""For the ranges of big files and for folders that are deleted."""
BUDGET = Budget(64 << 20)
"""For all that is being sent."""


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
