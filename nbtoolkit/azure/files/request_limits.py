"""Limits of the requests to Azure Files: threads, memory and retry timeouts."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from nbtoolkit.progress import Sent, silent
from nbtoolkit.utils.threads import CANCEL_POLL, DaemonPool

T = TypeVar("T")
Item = TypeVar("Item")

READ_AHEAD = 8
"""Ranges of one file that are downloaded ahead of the reader."""
MAX_REQUESTS = 32
"""Concurrent requests of the pool; small files add those of their own threads."""


@dataclass(frozen=True)
class ShareLimits:
    """Limits of the requests to a share; times in seconds."""

    retry_busy: float = 120
    """For how long requests to a busy service are retried."""
    retry_unreachable: float = 20
    """For how long requests to an unreachable service are retried."""
    retry_in_use: float = 6
    """For how long a request for a file that a mount holds open is retried."""
    ranges_in_flight: int = 12
    """Concurrent ranges of one uploaded file: 48 MiB."""


DEFAULT_LIMITS = ShareLimits()


class Interrupted(Exception):
    """The caller no longer waits for the response; never leaves this package."""


class RetryState:
    """State of the attempts of one request.

    ``maybe_applied`` is true once an attempt without a response may have been applied. ``stop`` ends the
    attempts from another thread; ``on_wait`` is called in this thread while it waits, and may raise.
    """

    def __init__(self, stop: threading.Event | None = None, on_wait: Sent = silent) -> None:
        self._stop = stop or threading.Event()
        self._on_wait = on_wait
        self.maybe_applied = False

    def wait(self, seconds: float) -> None:
        """Wait; raises Interrupted once ``stop`` is set."""
        end = time.monotonic() + seconds
        while True:
            self._on_wait(0)
            left = end - time.monotonic()
            if self._stop.wait(max(0, min(left, CANCEL_POLL))):
                raise Interrupted
            if left <= CANCEL_POLL:
                return


RETRY_STATE: ContextVar[RetryState] = ContextVar("RETRY_STATE")
"""The state of the request that this thread sends."""


class MemoryBudget:
    """A limit on the bytes that all running uploads hold in memory."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    def acquire(self, count: int, timeout: float) -> bool:
        """Reserve ``count`` bytes; return False if they are not free within ``timeout`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free >= count, timeout):
                return False
            self._free -= count
            return True

    def release(self, count: int) -> None:
        """Free bytes that were reserved."""
        with self._changed:
            self._free += count
            self._changed.notify_all()


POOL = DaemonPool(MAX_REQUESTS)
"""Threads for the ranges of big files and for deleting folders."""
UPLOAD_MEMORY = MemoryBudget(64 << 20)
"""Memory of all uploads of this process."""


def map_in_order(
    function: Callable[[Item], T],
    items: Sequence[Item],
    stop: threading.Event,
    on_wait: Sent,
    ahead: int = READ_AHEAD,
) -> Generator[T]:
    """Yield ``function(item)`` for every item in order, with up to ``ahead`` calls running at a time.

    ``on_wait`` is called with 0 while this thread waits, and may raise to stop. At the end ``stop`` is set
    and calls that have not started are cancelled; a caller that may stop early closes the iterator.
    """
    running: deque[Future[T]] = deque()

    def first() -> T:
        future = running.popleft()
        on_wait(0)
        while not wait([future], CANCEL_POLL).done:
            on_wait(0)
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
