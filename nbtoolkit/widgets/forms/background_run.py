"""Run a step in a worker thread, at most once at a time per workspace, target and step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar, cast

from nbtoolkit.errors import Cancelled, NotApplied
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import start_daemon

ResultT = TypeVar("ResultT")

_NOTIFY_INTERVAL = 0.5
"""Seconds between notifications in a phase that reports nothing."""
_WAIT_POLL = 0.2
"""Seconds between two checks of a waiting cell, so that ■ is noticed."""


class RunStatus(Enum):
    """The status of a run."""

    RUNNING = "running"
    DONE = "done"
    PLANNED = "planned"
    CANCELLED = "cancelled"
    FAILED = "failed"


class BackgroundRun(Generic[ResultT]):
    """Run ``function(progress)`` in a worker thread and call the listeners on every change, in that thread.

    ``settings`` are those of the run. ``lines`` are phases and notes in order (notes are indented).
    ``advance`` is the last reported amount, its total and its unit.
    """

    def __init__(self, settings: Any, function: Callable[[Progress], ResultT]) -> None:
        self.settings = settings
        self.status = RunStatus.RUNNING
        self.error: BaseException | None = None
        self.result: ResultT | None = None
        self.lines: list[str] = []
        self.advance: tuple[float, float | None, str] | None = None
        self._function = function
        self._progress = _RunProgress(self)
        self._ended = threading.Event()
        self._start_time = time.monotonic()
        self._duration: float | None = None
        self._listeners: list[Callable[[BackgroundRun[Any]], None]] = []

    def start(self) -> None:
        """Start the worker thread."""
        start_daemon(self._work, name="form")

    @property
    def phase(self) -> str:
        """The current phase, or the last one."""
        return self._progress.current_phase

    @property
    def seconds(self) -> float:
        """The duration of the run, so far or in total."""
        return time.monotonic() - self._start_time if self._duration is None else self._duration

    @property
    def cancel_requested(self) -> bool:
        """Whether the run was cancelled; it may not have stopped yet."""
        return self._progress.cancel_requested

    def subscribe(self, listener: Callable[[BackgroundRun[Any]], None]) -> None:
        """Call ``listener`` on every change from now on."""
        self._listeners.append(listener)

    def notify(self) -> None:
        """Call the listeners."""
        for listener in list(self._listeners):
            listener(self)

    def cancel(self) -> None:
        """Cancel the step; it stops at its next report, at most two seconds from now."""
        if self.status is RunStatus.RUNNING:
            self._progress.cancel()
            self.notify()

    def wait(self, timeout: float | None = None, *, on_line: Callable[[str], None] | None = None) -> bool:
        """Wait for the end and return whether the run ended; ``on_line`` is called here with each line.

        The first ■ cancels the step and raises :class:`Cancelled` when it has stopped; a second ■ stops
        waiting and raises KeyboardInterrupt.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        printed, interrupted = 0, False
        while True:
            try:
                ended = self._ended.wait(_WAIT_POLL)
                while on_line is not None and printed < len(self.lines):
                    on_line(self.lines[printed])
                    printed += 1
                if ended or (deadline is not None and time.monotonic() >= deadline):
                    break
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self.cancel()
        if interrupted and self.status is RunStatus.DONE:
            raise Cancelled(
                "The step had finished before it was cancelled.",
                next_step="call result() of the form again",
            )
        return ended

    def outcome(self) -> ResultT:
        """Return the result of an ended run, or raise its error."""
        if self.error is not None:
            raise self.error
        return cast(ResultT, self.result)

    def _work(self) -> None:
        self.notify()
        try:
            self.result = self._function(self._progress)
            status = RunStatus.DONE
        except BaseException as error:  # noqa: BLE001 - raised by outcome()
            self.error = error
            status = _status_of(error)
        self._duration = time.monotonic() - self._start_time
        self.status = status
        try:
            self.notify()
        finally:
            self._ended.set()


def _status_of(error: BaseException) -> RunStatus:
    if isinstance(error, Cancelled):
        return RunStatus.CANCELLED
    return RunStatus.PLANNED if isinstance(error, NotApplied) else RunStatus.FAILED


class _RunProgress(Progress):
    """Record the reports of a step in its run."""

    def __init__(self, run: BackgroundRun[Any]) -> None:
        super().__init__()
        self._run = run
        self._last_notify = 0.0

    @property
    def cancel_requested(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        super().check()
        now = time.monotonic()
        if now - self._last_notify > _NOTIFY_INTERVAL:  # updates the elapsed time in a phase without reports
            self._last_notify = now
            self._run.notify()

    def show(self, text: str) -> None:
        lines = self._run.lines
        if not lines or lines[-1] != text:
            lines.append(text)
        if not text.startswith(" "):
            self._run.advance = None
        self._run.notify()

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        self._run.advance = (done, total, unit)
        self._run.notify()


RunKey = tuple[str, str, str]
"""The workspace, target and step of a run."""

_runs: dict[RunKey, BackgroundRun[Any]] = {}
_runs_lock = threading.Lock()


def running(key: RunKey) -> BackgroundRun[Any] | None:
    """Return the run in progress in this process."""
    run = _runs.get(key)
    return run if run is not None and run.status is RunStatus.RUNNING else None


def start_once(key: RunKey, run: BackgroundRun[ResultT]) -> BackgroundRun[ResultT]:
    """Start ``run`` and return it; if another run is in progress, return that one instead."""
    with _runs_lock:
        in_progress = running(key)
        if in_progress is not None:
            return in_progress
        _runs[key] = run
        run.start()
        return run
