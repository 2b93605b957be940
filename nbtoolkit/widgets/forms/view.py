"""The widgets of a form; callbacks write the inputs and buttons, the worker thread writes the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import ipywidgets as w

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.widgets.forms.background_run import BackgroundRun, RunStatus
from nbtoolkit.widgets.forms.inputs import Input, button
from nbtoolkit.widgets.forms.model import FormModel
from nbtoolkit.widgets.forms.run_view import RunView
from nbtoolkit.widgets.html import blocker_card, error_card, heading, html_of, muted_line


class FormView:
    """Build and update the widgets of one form."""

    def __init__(self, form: FormModel[Any, Any]) -> None:
        self._form = form
        self.run_button = button(form.run_label, "primary", partial(self.start, apply=False))
        self.apply_button = button("Apply", "danger", partial(self.start, apply=True))
        self.cancel_button = button("Cancel", "", self._cancel)
        self.check_button = button("Check again", "", self.refresh)
        self.recommended_button = button("Use the recommended settings", "", self._use_recommended)
        secondary = form.secondary_action
        self.secondary_button = button(secondary.label if secondary else "", "primary", self._start_secondary)
        self._inputs = {spec.name: self._input(spec.name) for spec in form.state.specs}
        self._blockers = w.HTML(layout=w.Layout(width="auto"))
        self._stale = w.HTML(layout=w.Layout(width="auto"))
        self._status = w.HTML(layout=w.Layout(width="auto"))
        self._run_view = RunView(form.step, self._buttons, form.is_success)
        self.widget = w.VBox(
            [
                w.HTML(heading(form.step) + _hide_closed_note(form)),
                self._status,
                *self._rows(),
                self._blockers,
                self._run_view.actions,
                self._stale,
                self._run_view.widget,
            ],
            layout=w.Layout(width="100%", padding="4px 0 8px"),
        )
        self.refresh()
        form.subscribe(self._run_changed)
        if form.current_run is not None:
            self._run_view.draw(form.current_run)
        if form.status is not None:
            start_daemon(self._show_status, name="status")

    def _input(self, name: str) -> Input:
        state = self._form.state
        suggest = self._form.suggestions.get(name)
        return Input(
            state.spec(name),
            state.input_value(name),
            partial(self._input_changed, name),
            suggestions=list(suggest()) if suggest else (),
            is_set=state.is_set(name),
        )

    def _rows(self) -> Iterable[w.Widget]:
        hidden = {name for name, field in self._inputs.items() if field.spec.advanced} | self._form.advanced
        yield from (field.row for name, field in self._inputs.items() if name not in hidden)
        folded = [field.row for name, field in self._inputs.items() if name in hidden]
        if folded:
            accordion = w.Accordion([w.VBox(folded)], layout=w.Layout(width="auto", max_width="640px"))
            accordion.set_title(0, "Advanced")
            yield accordion

    def _buttons(self, run: BackgroundRun[Any] | None) -> Sequence[w.Button]:
        """Return the buttons for a run; the worker thread calls this and writes none of them."""
        if run is not None and run.status is RunStatus.RUNNING:
            return [self.cancel_button]
        planned = self._form.needs_apply and run is not None and run.status is RunStatus.PLANNED
        return [
            self.run_button,
            *([self.apply_button] if planned else []),
            *([self.recommended_button] if self._form.recommended() else []),
            self.secondary_button,
            self.check_button,
        ]

    # Below: called by callbacks and by the notebook's cells.

    def _input_changed(self, name: str, entered: Any) -> None:
        self._form.state.set_input(name, entered)
        self.apply_button.disabled = True  # the plan was made for other values
        self.refresh()

    def reload(self, names: Iterable[str]) -> None:
        """Show values that code has set."""
        for name in names:
            self._inputs[name].set_value(self._form.state.input_value(name))
            self._inputs[name].touched = True
        self.apply_button.disabled = True
        self.refresh()

    def refresh(self) -> None:
        """Validate again and show problems, blockers and buttons."""
        validated = self._form.state.validate()
        for name, field in self._inputs.items():
            field.show_problem(validated.problems.get(name) if field.touched else None)
        blockers = self._form.blockers()
        self._blockers.value = blocker_card(blockers)
        self._blockers.layout.display = None if blockers else "none"
        self.run_button.disabled = bool(blockers)
        self.run_button.description, self.run_button.button_style = self._form.run_button()
        self.check_button.layout.display = None if blockers else "none"
        secondary, settings = self._form.secondary_action, validated.settings
        applicable = bool(blockers and secondary and settings and secondary.is_applicable(settings))
        self.secondary_button.layout.display = None if applicable else "none"
        self._show_stale()

    def _show_stale(self) -> None:
        run = self._form.current_run
        titles = self._form.titles(self._form.state.changed_since(run.settings)) if run is not None else ""
        self._stale.value = muted_line(f"Changed since the run below: {titles}.") if titles else ""
        self._stale.layout.display = None if titles else "none"

    def start(self, **options: Any) -> None:
        """Start the step; if a press comes too late to be valid, show the error."""
        self.cancel_button.disabled = False
        self.apply_button.disabled = False
        try:
            self._form.start(**options)
        except NbtoolkitError as error:  # values or blockers changed since the button was drawn
            self._stale.value = error_card(error)
            self._stale.layout.display = None
            return
        self.refresh()

    def _start_secondary(self) -> None:
        if self._form.secondary_action is not None:
            self.start(run=self._form.secondary_action.run)

    def _use_recommended(self) -> None:
        self._form.set(**self._form.recommended())

    def _cancel(self) -> None:
        self.cancel_button.disabled = True
        self._form.cancel()

    # Below: called by worker threads.

    def _run_changed(self, run: BackgroundRun[Any]) -> None:
        self._run_view.draw(run)
        if run.status is not RunStatus.RUNNING:
            self._show_status()

    def _show_status(self) -> None:
        if self._form.status is None:
            return
        try:
            self._status.value = html_of(self._form.status())
        except Exception as error:  # noqa: BLE001 - shown here, because nothing reads a thread's error
            self._status.value = error_card(error)


def _hide_closed_note(form: object) -> str:
    return f"<style>.nbtoolkit-closed-{id(form)}{{display:none}}</style>"


def closed_note(form: FormModel[Any, Any]) -> str:
    """Return the HTML that a reopened notebook shows in place of the form; a live form hides it."""
    return (
        f'<div class="nbtoolkit-closed-{id(form)}">'
        + muted_line(f"{form.step}: run this cell again to open the form. Its values were:")
        + html_of(form)
        + "</div>"
    )
