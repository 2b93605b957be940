"""The widgets of a form: inputs and buttons are written by callbacks, the run by its worker."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.background_run import Operation, RunStatus
from nbtoolkit.widgets.forms.inputs import Input, button
from nbtoolkit.widgets.forms.run_view import RunView

if TYPE_CHECKING:
    from nbtoolkit.widgets.forms.form import Form


class FormView:
    """Build and update the widgets of one form."""

    def __init__(self, form: Form[Any, Any]) -> None:
        self._form = form
        self.run_button = button(form.action, "primary", self._run_pressed)
        self.apply_button = button("Apply", "danger", self._apply_pressed)
        self.cancel_button = button("Cancel", "", self._cancel_pressed)
        self.check_button = button("Check again", "", self._check_pressed)
        remedy = form.remedy
        self.remedy_button = button(remedy.text if remedy else "", "primary", self._remedy_pressed)
        self._inputs = {spec.name: self._input(spec.name) for spec in form.draft.specs}
        self._blocked = w.HTML(layout=w.Layout(width="auto"))
        self._stale = w.HTML(layout=w.Layout(width="auto"))
        self._standing = w.HTML(layout=w.Layout(width="auto"))
        self._run_view = RunView(form.step, self._buttons, form.good)
        self.widget = w.VBox(
            [
                w.HTML(page.heading(form.step) + _hide_closed_note(form)),
                self._standing,
                *self._rows(),
                self._blocked,
                self._run_view.actions,
                self._stale,
                self._run_view.widget,
            ],
            layout=w.Layout(width="100%", padding="4px 0 8px"),
        )
        self.refresh()
        form.watch(self._changed)
        if form.operation is not None:
            self._run_view.draw(form.operation)
        self._look()

    def _input(self, name: str) -> Input:
        draft = self._form.draft
        suggest = self._form.suggestions.get(name)
        return Input(
            draft.spec(name),
            draft.shown(name),
            partial(self._typed, name),
            suggestions=list(suggest()) if suggest else (),
            is_set=draft.is_set(name),
        )

    def _rows(self) -> Iterable[w.Widget]:
        hidden = {name for name, field in self._inputs.items() if field.spec.advanced} | self._form.folded
        yield from (field.row for name, field in self._inputs.items() if name not in hidden)
        folded = [field.row for name, field in self._inputs.items() if name in hidden]
        if folded:
            fold = w.Accordion([w.VBox(folded)], layout=w.Layout(width="auto", max_width="640px"))
            fold.set_title(0, "Advanced")
            yield fold

    def _buttons(self, operation: Operation[Any] | None) -> Sequence[w.Button]:
        """Return the buttons for a state; called by the worker, which writes none of them."""
        if operation is not None and operation.status is RunStatus.RUNNING:
            return [self.cancel_button]
        planned = self._form.costs and operation is not None and operation.status is RunStatus.PLANNED
        return [
            self.run_button,
            *([self.apply_button] if planned else []),
            self.remedy_button,
            self.check_button,
        ]

    # Below: callbacks and the notebook's own cells.

    def _typed(self, name: str, shown: Any) -> None:
        self._form.draft.put_shown(name, shown)
        self.apply_button.disabled = True  # its plan was of other values
        self.refresh()

    def reload(self, names: Iterable[str]) -> None:
        """Show values that were set by code."""
        for name in names:
            self._inputs[name].show(self._form.draft.shown(name))
            self._inputs[name].touched = True
        self.apply_button.disabled = True
        self.refresh()

    def refresh(self) -> None:
        """Validate again and show problems and blockers."""
        checked = self._form.draft.check()
        for name, field in self._inputs.items():
            field.show_problem(checked.problems.get(name) if field.touched else None)
        sentences = self._form.blockers()
        self._blocked.value = page.blockers(sentences)
        self._blocked.layout.display = None if sentences else "none"
        self.run_button.disabled = bool(sentences)
        self.check_button.layout.display = None if sentences else "none"
        remedy = self._form.remedy
        helps = bool(sentences and remedy and checked.settings and remedy.helps(checked.settings))
        self.remedy_button.layout.display = None if helps else "none"
        self._show_stale()

    def _show_stale(self) -> None:
        operation = self._form.operation
        changed = self._form.draft.changed_since(operation.settings) if operation is not None else []
        names = ", ".join(self._form.draft.spec(name).title for name in changed)
        self._stale.value = page.muted(f"Changed since the run below: {names}.") if names else ""
        self._stale.layout.display = None if names else "none"

    def _run_pressed(self, _: w.Button) -> None:
        self.begin(apply=False)

    def _apply_pressed(self, _: w.Button) -> None:
        self.begin(apply=True)

    def begin(self, **options: Any) -> None:
        """Start the form's step; a press that came too late to be right shows why."""
        self.cancel_button.disabled = False
        self.apply_button.disabled = False
        try:
            self._form.start(**options)
        except NbtoolkitError as error:  # values or blockers changed since the button was drawn
            self._stale.value = page.failure(error)
            self._stale.layout.display = None
            return
        self.refresh()

    def _remedy_pressed(self, _: w.Button) -> None:
        if self._form.remedy is not None:
            self.begin(run=self._form.remedy.run)

    def _cancel_pressed(self, _: w.Button) -> None:
        self.cancel_button.disabled = True
        self._form.cancel()

    def _check_pressed(self, _: w.Button) -> None:
        self.refresh()

    # Below: workers.

    def _changed(self, operation: Operation[Any]) -> None:
        self._run_view.draw(operation)
        if operation.status is not RunStatus.RUNNING:
            self._show_standing()

    def _look(self) -> None:
        if self._form.standing is not None:
            threading.Thread(target=self._show_standing, name="nbtoolkit-standing", daemon=True).start()

    def _show_standing(self) -> None:
        if self._form.standing is None:
            return
        try:
            self._standing.value = page.represent(self._form.standing())
        except (NbtoolkitError, OSError) as error:
            self._standing.value = page.failure(error)


def _hide_closed_note(form: object) -> str:
    return f"<style>.nbtoolkit-closed-{id(form)}{{display:none}}</style>"


def closed_note(form: Form[Any, Any]) -> str:
    """Return what a reopened notebook shows where the live form was; the live form hides it."""
    return (
        f'<div class="nbtoolkit-closed-{id(form)}">'
        + page.muted(f"{form.step}: run this cell again to open the form. Its values were:")
        + page.represent(form)
        + "</div>"
    )
