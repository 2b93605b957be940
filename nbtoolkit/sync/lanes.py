"""Threads that are in nobody's way: bounded in number, and one that hangs keeps no program from ending."""

from __future__ import annotations

import queue
import threading
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
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._lock = threading.Lock()

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

        self._waiting.put(run)
        if not self._idle.acquire(blocking=False):
            with self._lock:
                more = self._count < self._most
                self._count += more
            if more:
                threading.Thread(target=self._serve, name="nbtoolkit-lane", daemon=True).start()
        return future

    def close(self) -> None:
        """Let every thread end once it has nothing to do; nothing may be started any more."""
        with self._lock:
            for _ in range(self._count):
                self._waiting.put(None)

    def _serve(self) -> None:
        while True:
            try:
                work = self._waiting.get(timeout=IDLE)
            except queue.Empty:
                if self._idle.acquire(blocking=False):
                    break
                continue  # somebody counts on this thread: work is about to come
            if work is None:
                break
            work()
            del work  # and what it holds, while this thread waits for more
            self._idle.release()
        with self._lock:
            self._count -= 1
