"""The widgets of a run: phase, progress bar, log and outcome; only the worker thread writes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w

from nbtoolkit.errors import NotApplied
from nbtoolkit.widgets.forms.background_run import BackgroundRun, RunStatus
from nbtoolkit.widgets.html import error_card, html_of, log_block, result_card, text_line

_REDRAW_INTERVAL = 0.1  # seconds between two redraws of the progress bar
_LOG_LINES = 60


class RunView:
    """Draw a run.

    ``buttons(run)`` returns the buttons for a run, None before the first one.
    """

    def __init__(
        self,
        step: str,
        buttons: Callable[[BackgroundRun[Any] | None], Sequence[w.Button]],
        is_success: Callable[[Any], bool] | None = None,
    ) -> None:
        self._step = step
        self._has_succeeded = is_success
        self._buttons = buttons
        self._last_draw = 0.0
        self._lock = threading.Lock()  # the cell that attaches to a run draws it once too
        self._bar = w.FloatProgress(
            min=0.0, max=1.0, layout=w.Layout(width="240px", margin="2px 12px 2px 2px")
        )
        self._phase = w.HTML(layout=w.Layout(flex="1 1 auto"))
        self._log = w.HTML()
        self._outcome = w.HTML(layout=w.Layout(width="auto"))
        self._line = w.HBox([self._bar, self._phase], layout=w.Layout(display="none", align_items="center"))
        self.actions = w.HBox(list(buttons(None)), layout=w.Layout(margin="6px 0 2px"))
        self.widget = w.VBox([self._line, self._log, self._outcome], layout=w.Layout(width="100%"))

    def draw(self, run: BackgroundRun[Any]) -> None:
        """Show the status of the run; the progress bar is redrawn at most ten times a second."""
        with self._lock:
            now = time.monotonic()
            running = run.status is RunStatus.RUNNING
            if run.advance and running and now - self._last_draw < _REDRAW_INTERVAL:
                return
            self._last_draw = now
            self._draw(run)

    def _draw(self, run: BackgroundRun[Any]) -> None:
        buttons = tuple(self._buttons(run))
        if self.actions.children != buttons:
            self.actions.children = buttons
        running = run.status is RunStatus.RUNNING
        self._draw_bar(run, running=running)
        log = log_block(run.lines[-_LOG_LINES:])
        if self._log.value != log:
            self._log.value = log
        outcome = "" if running else self._outcome_html(run)
        if self._outcome.value != outcome:
            self._outcome.value = outcome

    def _draw_bar(self, run: BackgroundRun[Any], *, running: bool) -> None:
        self._line.layout.display = "flex"
        if run.status in (RunStatus.DONE, RunStatus.PLANNED):
            self._bar.value = 1.0
        elif run.advance and run.advance[1]:
            done, total, _ = run.advance
            self._bar.value = min(1.0, done / (total or 1.0))
        elif running:
            self._bar.value = 0.0
        self._bar.bar_style = {
            RunStatus.RUNNING: "info",
            RunStatus.DONE: "success" if not running and self._is_success(run) else "danger",
            RunStatus.PLANNED: "info",
            RunStatus.CANCELLED: "warning",
            RunStatus.FAILED: "danger",
        }[run.status]
        self._phase.value = text_line(_phase_line(run))

    def _is_success(self, run: BackgroundRun[Any]) -> bool:
        return run.error is None and (self._has_succeeded is None or self._has_succeeded(run.result))

    def _outcome_html(self, run: BackgroundRun[Any]) -> str:
        error = run.error
        if isinstance(error, NotApplied):
            plan = error.message if error.plan is None else error.plan
            return result_card(f"Plan of {self._step}", html_of(plan), success=True)
        if error is not None:
            return error_card(error)
        body = html_of(run.result)
        if not self._is_success(run):
            return result_card(f"{self._step} failed", body, success=False)
        # a result such as the plan of a teardown has its own headline
        headline = getattr(run.result, "headline", "") or f"{self._step} finished"
        return result_card(headline, body, success=True)


def _phase_line(run: BackgroundRun[Any]) -> str:
    seconds = f"{run.seconds:.0f} s"
    if run.status is not RunStatus.RUNNING:
        return f"{run.status.value.capitalize()} after {seconds}"
    phase = "Cancelling" if run.cancel_requested else run.phase or "Starting"
    note = run.lines[-1].strip() if run.lines and run.lines[-1].startswith(" ") else ""
    amount = _amount(*run.advance) if run.advance else note
    return " · ".join(part for part in (phase, amount, seconds) if part)


def _amount(done: float, total: float | None, unit: str) -> str:
    scale, unit = (1e6, "MB") if unit == "B" else (1.0, unit)
    digits = 1 if unit == "MB" else 0
    amount = f"{done / scale:.{digits}f}"
    if total:
        amount += f" of {total / scale:.{digits}f}"
    return f"{amount} {unit}".strip()
