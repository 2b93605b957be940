"""Report the phases of a workflow, and cancel it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, TypeVar

from nbtoolkit.errors import Cancelled

if TYPE_CHECKING:
    from filelock import BaseFileLock

T = TypeVar("T")

Sent = Callable[[int], object]
"""Called with the bytes of each chunk sent, negative if a chunk is sent again; may raise to stop."""


def silent(_: int) -> None:
    """Ignore the number of bytes sent."""


class Progress:
    """Receive the phases of a workflow and pass a cancel request to it; this base class shows nothing.

    Every method may be called from any thread and raises :class:`Cancelled` once :meth:`cancel`
    was called, so a workflow that reports at least every two seconds can be cancelled within two.
    Subclasses override :meth:`show`.
    """

    def __init__(self) -> None:
        self._cancelled = threading.Event()
        self.current_phase = ""

    def phase(self, text: str) -> None:
        """Begin a new phase."""
        self.check()
        self.current_phase = text
        self.show(text)

    def advance(self, done: float, total: float | None = None, unit: str = "") -> None:
        """Report the progress of the current phase; ``unit`` is ``"B"`` for bytes or a plural noun."""
        self.check()
        self.show_advance(done, total, unit)

    def note(self, text: str) -> None:
        """Report a fact about the current phase, such as the reason for waiting."""
        self.check()
        self.show(f"  {text}")

    def check(self) -> None:
        """Raise :class:`Cancelled` if the user has cancelled."""
        if self._cancelled.is_set():
            raise Cancelled(
                f"Cancelled while: {self.current_phase or 'starting'}.",
                next_step="run the step again; it continues from what is done",
                phase=self.current_phase,
            )

    def sleep(self, seconds: float) -> None:
        """Sleep; raise :class:`Cancelled` as soon as the user cancels."""
        self._cancelled.wait(seconds)
        self.check()

    def wait_until(
        self,
        probe: Callable[[], T | None],
        *,
        timeout: float | None = None,
        interval: float | Callable[[], float] = 1.0,
    ) -> T | None:
        """Call ``probe`` every ``interval`` seconds until it returns a true value, and return that value.

        Returns None after ``timeout`` seconds and raises :class:`Cancelled` as soon as the user cancels. The
        probe runs in the calling thread: wrap it in ``run_cancellable`` if it can block. ``interval`` may be
        a function that returns the next pause, such as for a backoff or a Retry-After header.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.check()
            if found := probe():
                return found
            pause = interval() if callable(interval) else interval
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                pause = min(pause, left)
            self.sleep(pause)

    @contextmanager
    def hold(self, lock: BaseFileLock, *, interval: float, waiting: str = "") -> Generator[None]:
        """Hold a lock file, which another process may hold first; ``waiting`` is the note meanwhile.

        Raises :class:`Cancelled` as soon as the user cancels.
        """

        def acquired() -> bool:
            with suppress(TimeoutError):
                return bool(lock.acquire(timeout=0))
            if waiting:
                self.note(waiting)
            return False

        self.wait_until(acquired, interval=interval)
        try:
            yield
        finally:
            lock.release()

    def cancel(self) -> None:
        """Request that the workflow stops at its next report."""
        self._cancelled.set()

    def show(self, text: str) -> None:
        """Display one line; does nothing here."""

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        """Display the progress of the phase; does nothing here."""


class UncancellableProgress(Progress):
    """Show an operation that must finish on another progress, and ignore a cancel of it."""

    def __init__(self, outer: Progress) -> None:
        super().__init__()
        self._outer = outer

    def show(self, text: str) -> None:
        """Display one line."""
        self._outer.show(text)

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        """Display the progress of the phase."""
        self._outer.show_advance(done, total, unit)


class PrintProgress(Progress):
    """Print one line per phase, for papermill and terminals; notes too, once each."""

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__()
        self._file = file
        self._start = time.monotonic()
        self._last = ""

    def show(self, text: str) -> None:
        """Print the line, unless it is the same as the last."""
        if text == self._last:
            return
        self._last = text
        print(f"[{time.monotonic() - self._start:6.1f} s] {text}", file=self._file or sys.stdout, flush=True)


SILENT = Progress
"""The default: ``progress or SILENT()``; a new one each time, since a cancel request sticks."""
