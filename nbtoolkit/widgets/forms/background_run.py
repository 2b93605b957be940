"""One run of a step in a worker thread, and the place where forms of the same step meet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar, cast

from nbtoolkit.errors import Cancelled, NotApplied
from nbtoolkit.progress import Progress

ResultT = TypeVar("ResultT")

_TICK = 0.5  # seconds between signs of life in a phase that reports nothing
_ALIVE = 0.2  # seconds between looks at a running worker, so that ■ is noticed


class RunStatus(Enum):
    """Where a run stands."""

    RUNNING = "running"
    DONE = "done"
    PLANNED = "planned"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Operation(Generic[ResultT]):
    """Run ``function(progress)`` in a worker thread; watchers are told of every change, in that thread.

    ``settings`` are those of the run. ``lines`` are phases and notes in order (notes are indented).
    """

    def __init__(self, settings: Any, function: Callable[[Progress], ResultT]) -> None:
        self.settings = settings
        self.status = RunStatus.RUNNING
        self.error: BaseException | None = None
        self.result: ResultT | None = None
        self.lines: list[str] = []
        self.advanced: tuple[float, float | None, str] | None = None
        self._function = function
        self._progress = _Reporter(self)
        self._ended = threading.Event()
        self._began = time.monotonic()
        self._seconds: float | None = None
        self._watchers: list[Callable[[Operation[Any]], None]] = []

    def start(self) -> None:
        """Start the worker."""
        threading.Thread(target=self._work, name="nbtoolkit-form", daemon=True).start()

    @property
    def phase(self) -> str:
        """The phase that runs, or ran last."""
        return self._progress.current_phase

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran."""
        return time.monotonic() - self._began if self._seconds is None else self._seconds

    @property
    def cancel_asked(self) -> bool:
        """Tell whether a cancel request is out."""
        return self._progress.cancel_asked

    def watch(self, watcher: Callable[[Operation[Any]], None]) -> None:
        """Tell ``watcher`` of every change from now on."""
        self._watchers.append(watcher)

    def cancel(self) -> None:
        """Ask the step to stop at its next report, at most two seconds from now."""
        if self.status is RunStatus.RUNNING:
            self._progress.cancel()
            self.tell()

    def wait(self, timeout: float | None = None, *, tell: Callable[[str], None] | None = None) -> bool:
        """Wait for the end and return whether it came; ``tell`` receives each line, in this thread.

        ■ cancels the step and raises :class:`Cancelled` when it has stopped; a second ■ stops waiting.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        told, interrupted = 0, False
        while True:
            try:
                ended = self._ended.wait(_ALIVE)
                while tell is not None and told < len(self.lines):
                    tell(self.lines[told])
                    told += 1
                if ended or (deadline is not None and time.monotonic() >= deadline):
                    break
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                self.cancel()
        if interrupted and self.status is RunStatus.DONE:
            raise Cancelled(
                "The step had finished before the cancel request reached it.",
                next_step="ask the form for its result() again",
            )
        return ended

    def outcome(self) -> ResultT:
        """Return the result of an ended run, or raise its error."""
        if self.error is not None:
            raise self.error
        return cast(ResultT, self.result)

    def tell(self) -> None:
        """Tell the watchers."""
        for watcher in list(self._watchers):
            watcher(self)

    def _work(self) -> None:
        self.tell()
        try:
            self.result = self._function(self._progress)
            status = RunStatus.DONE
        except BaseException as error:  # noqa: BLE001 - kept for result(), which raises it
            self.error = error
            status = _status_of(error)
        self._seconds = time.monotonic() - self._began
        self.status = status
        try:
            self.tell()
        finally:
            self._ended.set()


def _status_of(error: BaseException) -> RunStatus:
    if isinstance(error, Cancelled):
        return RunStatus.CANCELLED
    return RunStatus.PLANNED if isinstance(error, NotApplied) else RunStatus.FAILED


class _Reporter(Progress):
    """Hand what a step reports to its operation."""

    def __init__(self, operation: Operation[Any]) -> None:
        super().__init__()
        self._operation = operation
        self._told = 0.0

    @property
    def cancel_asked(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        super().check()
        now = time.monotonic()
        if now - self._told > _TICK:  # a long silent phase still shows that time passes
            self._told = now
            self._operation.tell()

    def show(self, text: str) -> None:
        lines = self._operation.lines
        if not lines or lines[-1] != text:
            lines.append(text)
        if not text.startswith(" "):
            self._operation.advanced = None
        self._operation.tell()

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        self._operation.advanced = (done, total, unit)
        self._operation.tell()


class Slot:
    """Hold the running operation of one step on one target of one workspace, in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operation: Operation[Any] | None = None

    @property
    def running(self) -> Operation[Any] | None:
        """The operation that runs now."""
        operation = self._operation
        return operation if operation is not None and operation.status is RunStatus.RUNNING else None

    def start(self, operation: Operation[ResultT]) -> Operation[ResultT]:
        """Start ``operation`` and return it; where one is running, return that one instead."""
        with self._lock:
            if self.running is not None:
                return self.running
            self._operation = operation
            operation.start()
            return operation


_slots: dict[tuple[str, str, str], Slot] = {}


def slot(workspace: str, target: str, step: str) -> Slot:
    """Return the one slot of this process for these three."""
    return _slots.setdefault((workspace, target, step), Slot())
