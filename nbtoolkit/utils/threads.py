"""Run calls in daemon threads, with a limit on their number, a timeout and a cancel.

A call that hangs is abandoned: its thread ends by itself and does not keep the interpreter alive.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.progress import SILENT, Progress, Sent

T = TypeVar("T")
Item = TypeVar("Item")

StartTask = Callable[[Coroutine[Any, Any, None]], Future[None]]
"""Start a coroutine in another thread's event loop and return its future."""

CANCEL_POLL = 0.25
"""Seconds between two checks for a cancel."""

IDLE_TIMEOUT = 30.0
"""Seconds after which an idle thread of a pool ends."""

WORKERS = 8
"""Threads of ``map_cancellable``: enough for local work such as hashing."""

STOP_GRACE = 1.5
"""Seconds that running items get to end after one failed."""


class CallTimeout(Exception):
    """A call has not ended in time; its thread still runs."""


class _Stopped(Exception):
    """Another item failed, or the user cancelled; never leaves this module."""


def start_daemon(call: Callable[[], T], *, name: str) -> Future[T]:
    """Run ``call`` in a daemon thread of its own and return its future."""
    future: Future[T] = Future()
    threading.Thread(target=_run, args=(future, call), name=f"nbtoolkit-{name}", daemon=True).start()
    return future


@contextmanager
def event_loop(*, name: str) -> Generator[StartTask]:
    """Run an event loop in a daemon thread; tasks that still run at the end of the block are cancelled."""
    import asyncio  # not above: nearly every module imports this one, and few need a loop

    loop, stopped = asyncio.new_event_loop(), asyncio.Event()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(stopped.wait())

    ended = start_daemon(serve, name=name)
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        wait([ended], STOP_GRACE)


class DaemonPool:
    """A bounded pool of daemon threads, started on demand and ended after ``idle_timeout`` seconds.

    ``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter exits, so one call
    that hangs would keep the process alive.
    """

    def __init__(self, max_threads: int, *, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._max_threads = max_threads
        self._idle_timeout = idle_timeout
        self._queue: deque[Callable[[], None]] = deque()
        self._count = 0
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()
        """Guards the four attributes above."""

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call and return its future."""
        future: Future[T] = Future()
        with self._changed:
            self._queue.append(lambda: _run(future, call))
            start = len(self._queue) > self._idle and self._count < self._max_threads
            self._count += start
            self._changed.notify()
        if start:
            threading.Thread(target=self._serve, name="nbtoolkit-pool", daemon=True).start()
        return future

    def close(self) -> None:
        """End every thread as soon as the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self) -> None:
        while call := self._next():
            call()
            del call  # release what it references while this thread waits

    def _next(self) -> Callable[[], None] | None:
        """Return the next call, or None after the idle timeout; the thread no longer counts then."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._queue or self._closed, self._idle_timeout)
            self._idle -= 1
            if self._queue:
                return self._queue.popleft()
            self._count -= 1
            return None


def run_cancellable(progress: Progress | None, call: Callable[[], T], timeout: float | None = None) -> T:
    """Run ``call`` in a thread and return its result, or raise its error.

    Raises :class:`Cancelled` within :data:`CANCEL_POLL` seconds of a cancel, and :class:`CallTimeout` after
    ``timeout`` seconds. In both cases the call goes on: a request that was sent may still take effect.
    """
    return run_all_cancellable(progress, {"": call}, timeout)[""].result()


def run_all_cancellable(
    progress: Progress | None, calls: Mapping[str, Callable[[], T]], timeout: float | None = None
) -> dict[str, Future[T]]:
    """Run all calls at the same time and return their futures, all done; see :func:`run_cancellable`."""
    pool = DaemonPool(len(calls))
    futures: dict[str, Future[T]] = {name: pool.submit(call) for name, call in calls.items()}
    try:
        wait_cancellable(progress, list(futures.values()), timeout)
    finally:
        for future in futures.values():
            future.cancel()
        pool.close()
    return futures


def wait_cancellable(
    progress: Progress | None, futures: Sequence[Future[Any]], timeout: float | None = None
) -> None:
    """Wait until all futures are done; raises :class:`Cancelled` and :class:`CallTimeout`."""
    progress = progress or SILENT()
    deadline = None if timeout is None else time.monotonic() + timeout
    pending = set(futures)
    while pending:
        left = CANCEL_POLL if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise CallTimeout(f"no answer within {timeout:g} s")
        _, pending = wait(pending, timeout=min(CANCEL_POLL, left))
        progress.check()


def query_all(queries: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Any]:
    """Run all queries at the same time; return name → result, or the :class:`AzureFailed` of that query.

    Raises errors that concern all of them: no sign-in, no connection to Azure, a cancel.
    """
    results: dict[str, Any] = {}
    for name, future in run_all_cancellable(progress, queries).items():
        try:
            results[name] = future.result()
        except NotSignedIn:
            raise
        except AzureFailed as error:
            if error.status is None:
                raise
            results[name] = error
    return results


def map_cancellable(
    function: Callable[[Item, Sent], T],
    items: Sequence[Item],
    *,
    progress: Progress | None = None,
    total: int | None = None,
    workers: int = WORKERS,
) -> list[T]:
    """Return ``function(item, sent)`` for every item, in the order of the items.

    ``function`` calls ``sent`` with the number of bytes of each chunk. The sum is reported against
    ``total`` every :data:`CANCEL_POLL` seconds from the calling thread. The first error, or a cancel, stops
    the other items at their next chunk and is raised.
    """
    progress = progress or SILENT()
    if not items:
        return []
    stop, lock, done = threading.Event(), threading.Lock(), 0

    def sent(count: int) -> None:
        nonlocal done
        if stop.is_set():
            raise _Stopped
        with lock:
            done += count

    def run(item: Item) -> T:
        sent(0)
        return function(item, sent)

    pool = DaemonPool(min(workers, len(items)))
    futures: list[Future[T]] = [pool.submit(lambda item=item: run(item)) for item in items]
    pending = set(futures)
    try:
        while pending:
            finished, pending = wait(pending, timeout=CANCEL_POLL, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            progress.advance(done, total, "B")
    finally:
        stop.set()
        wait([future for future in pending if not future.cancel()], STOP_GRACE)
        pool.close()
    return [future.result() for future in futures]


def _run(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  raised by future.result()
        future.set_exception(error)
