"""The generic form: a settings model as inputs, a plain function as the step that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbtoolkit.errors import StaleResult
from nbtoolkit.progress import PrintProgress
from nbtoolkit.utils.display import html_table
from nbtoolkit.widgets.forms.background_run import RunStatus
from nbtoolkit.widgets.forms.fields import FieldKind
from nbtoolkit.widgets.forms.model import FormModel, ResultT, SettingsT
from nbtoolkit.widgets.forms.model import SecondaryAction as SecondaryAction
from nbtoolkit.widgets.html import blocker_card, heading
from nbtoolkit.widgets.notebook_display import NotebookDisplay, is_interactive


class Form(FormModel[SettingsT, ResultT], NotebookDisplay):
    """Display the settings of a step as widgets and run the step's plain function.

    ``settings`` is a settings model, or an instance with the initial values. ``run(settings, progress=...)``
    is called in a worker thread. ``blockers(settings)`` is a pure function that returns sentences; nothing
    runs while there is one. ``suggestions`` maps a field name to a function that lists texts to pick from.
    ``advanced`` names fields to fold away, in addition to those that the model marks as advanced.
    ``status()`` returns the state of the target, shown when the form opens and after a run.
    ``is_success(result)`` returns whether a result is shown as a success. ``recommend(run)`` returns field
    values that an ended run recommends, which a button takes over. ``run_label`` is the text of the
    button that runs the step.

    With ``needs_apply=True``, for a step that costs money, ``run`` is first called with ``apply=False`` and
    raises ``NotApplied`` with its plan. Only the Apply button, or ``apply=True`` here, runs it with
    ``apply=True``.

    A form that is created while the same step runs in this process, for the same workspace and target,
    attaches to that run and loads its values.
    """

    def set(self, **values: Any) -> None:
        """Set values by field name, as typing them into the form does."""
        super().set(**values)
        if self._view is not None:
            self._view.reload(values)

    def result(self) -> ResultT:
        """Return the result of the step, interactive or headless.

        If the step never ran, run it now. If it is running, wait for it (■ cancels it). If it ended with
        the current values, return its result or raise its error. Raises :class:`StaleResult` with the
        changed fields if values changed since the run.
        """
        run = self.current_run
        if run is None:
            run = self.start(apply=self._apply)
        on_line = PrintProgress().show if self._view is None else None
        if on_line is None and run.status is RunStatus.RUNNING:  # some frontends queue a press on Cancel
            print(f"{self.step} is running; ■ cancels it.", flush=True)  # noqa: T201
        run.wait(on_line=on_line)
        changed = self.state.changed_since(run.settings)
        if changed:
            raise StaleResult(
                f"The result of {self.step} is of other values; changed since: {self.titles(changed)}.",
                next_step="run the form again, or set the values back",
                fields=changed,
            )
        return run.outcome()

    def _build_view(self) -> Any:
        from nbtoolkit.widgets.forms.view import FormView

        return FormView(self)

    def _ipython_display_(self) -> None:
        if is_interactive():
            from IPython.display import publish_display_data

            from nbtoolkit.widgets.forms.view import closed_note

            publish_display_data({"text/html": closed_note(self), "text/plain": repr(self)})
        super()._ipython_display_()

    def _rows(self) -> Iterator[tuple[str, str]]:
        """Yield title and displayed value of every field; a secret is not shown."""
        for spec in self.state.specs:
            if not self.state.is_set(spec.name):
                text = ""
            elif spec.kind is FieldKind.SECRET:
                text = "set, not shown"
            else:
                text = str(self.state.input_value(spec.name))
            yield spec.title, text or "–"

    def _run_status(self) -> str:
        return "not run yet" if self.current_run is None else self.current_run.status.value

    def __repr__(self) -> str:
        lines = [f"{self.step} form ({self._run_status()})"]
        for spec, (title, text) in zip(self.state.specs, self._rows(), strict=True):
            if not self.state.is_default(spec.name):
                lines.append(f"  {title}: " + text.replace("\n", "\n    "))
        return "\n".join(lines + [f"  needs: {blocker}" for blocker in self.blockers()])

    def _repr_html_(self) -> str:
        title = heading(f"{self.step} ({self._run_status()})")
        return title + html_table(self._rows()) + blocker_card(self.blockers())
