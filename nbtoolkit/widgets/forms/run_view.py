"""What a form shows of its run; written by the worker only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w

from nbtoolkit.errors import NotApplied
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.background_run import Operation, RunStatus

_PERIOD = 0.1  # seconds between redrawn advances
_LINES = 60


class RunView:
    """Draw an operation: phase, bar, log and outcome.

    ``buttons`` says which buttons there are for an operation, None before the first one.
    """

    def __init__(
        self,
        step: str,
        buttons: Callable[[Operation[Any] | None], Sequence[w.Button]],
        good: Callable[[Any], bool] | None = None,
    ) -> None:
        self._step = step
        self._good = good
        self._buttons = buttons
        self._drawn = 0.0
        self._lock = threading.Lock()  # an attached view is drawn once by the cell that attaches it
        self._bar = w.FloatProgress(
            min=0.0, max=1.0, layout=w.Layout(width="240px", margin="2px 12px 2px 2px")
        )
        self._phase = w.HTML(layout=w.Layout(flex="1 1 auto"))
        self._log = w.HTML()
        self._outcome = w.HTML(layout=w.Layout(width="auto"))
        self._line = w.HBox([self._bar, self._phase], layout=w.Layout(display="none", align_items="center"))
        self.actions = w.HBox(list(buttons(None)), layout=w.Layout(margin="6px 0 2px"))
        self.widget = w.VBox([self._line, self._log, self._outcome], layout=w.Layout(width="100%"))

    def draw(self, operation: Operation[Any]) -> None:
        """Show where the operation stands; redraws of a mere advance are limited to ten a second."""
        with self._lock:
            now = time.monotonic()
            if operation.advanced and operation.status is RunStatus.RUNNING and now - self._drawn < _PERIOD:
                return
            self._drawn = now
            self._draw(operation)

    def _draw(self, operation: Operation[Any]) -> None:
        buttons = tuple(self._buttons(operation))
        if self.actions.children != buttons:
            self.actions.children = buttons
        running = operation.status is RunStatus.RUNNING
        self._draw_bar(operation, running=running)
        # notes are indented; the running phase already stands beside the bar
        log = page.log_lines(operation.lines[-_LINES:])
        if self._log.value != log:
            self._log.value = log
        outcome = "" if running else self._shown_outcome(operation)
        if self._outcome.value != outcome:
            self._outcome.value = outcome

    def _draw_bar(self, operation: Operation[Any], *, running: bool) -> None:
        self._line.layout.display = "flex"
        if operation.advanced and operation.advanced[1]:
            done, total, _ = operation.advanced
            self._bar.value = min(1.0, done / (total or 1.0))
        elif running:
            self._bar.value = 0.0
        if not running:
            self._bar.value = (
                1.0 if operation.status in (RunStatus.DONE, RunStatus.PLANNED) else self._bar.value
            )
        self._bar.bar_style = {
            RunStatus.RUNNING: "info",
            RunStatus.DONE: "success" if not running and self._is_good(operation) else "danger",
            RunStatus.PLANNED: "info",
            RunStatus.CANCELLED: "warning",
            RunStatus.FAILED: "danger",
        }[operation.status]
        self._phase.value = page.plain(_phase(operation))

    def _is_good(self, operation: Operation[Any]) -> bool:
        return operation.error is None and (self._good is None or self._good(operation.result))

    def _shown_outcome(self, operation: Operation[Any]) -> str:
        error = operation.error
        if isinstance(error, NotApplied):
            plan = getattr(error, "plan", None)
            return page.success(
                f"Plan of {self._step}", page.represent(error.message if plan is None else plan)
            )
        if error is not None:
            return page.failure(error)
        shown = page.represent(operation.result)
        if not self._is_good(operation):
            return page.bad(f"{self._step} failed", shown)
        # a result that is no end of the step says what it is
        return page.success(getattr(operation.result, "headline", "") or f"{self._step} finished", shown)


def _phase(operation: Operation[Any]) -> str:
    seconds = f"{operation.seconds:.0f} s"
    if operation.status is not RunStatus.RUNNING:
        return f"{operation.status.value.capitalize()} after {seconds}"
    phase = "Cancelling" if operation.cancel_asked else operation.phase or "Starting"
    note = operation.lines[-1].strip() if operation.lines and operation.lines[-1].startswith(" ") else ""
    amount = _amount(*operation.advanced) if operation.advanced else note
    return " · ".join(part for part in (phase, amount, seconds) if part)


def _amount(done: float, total: float | None, unit: str) -> str:
    scale, word = (1e6, "MB") if unit == "B" else (1.0, unit)
    digits = 1 if unit == "B" else 0
    amount = f"{done / scale:.{digits}f}"
    if total:
        amount += f" of {total / scale:.{digits}f}"
    return f"{amount} {word}".strip()
