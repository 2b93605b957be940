"""A form over a plain function: settings in, result out, interactive or headless."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nbtoolkit.errors import InvalidSettings, StaleResult
from nbtoolkit.progress import PrintProgress, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.widgets import html as page
from nbtoolkit.widgets.forms.background_run import Operation, RunStatus, Slot, slot
from nbtoolkit.widgets.forms.fields import FieldKind
from nbtoolkit.widgets.forms.state import Draft
from nbtoolkit.widgets.notebook_env import is_interactive, mimebundle
from nbtoolkit.workspace import Workspace

SettingsT = TypeVar("SettingsT", bound=Settings)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class SecondaryAction(Generic[SettingsT, ResultT]):
    """A run that first settles what blocks the step: its button's text, and when it can help."""

    text: str
    run: Callable[..., ResultT]
    helps: Callable[[SettingsT], bool]


class Form(Generic[SettingsT, ResultT]):
    """Show the settings of a step as widgets and run the step's plain function.

    ``settings`` is a settings model or an instance to start from; ``run(settings, progress=...)`` does the
    work, in a worker thread. ``blockers(settings)`` is a pure function that returns sentences; while there is
    one, nothing runs. ``suggestions`` maps a field's name to a function that lists texts to pick from.
    ``folded`` names fields to fold away beside those that the model marks as advanced.
    ``standing()`` returns what the target says now, shown on opening and after a run. ``good(result)`` tells
    whether a result is shown as a success. ``action`` is the text of the button that runs it; ``remedy`` is
    a second button, for a run that settles blockers.

    With ``costs=True`` the step costs money: ``run`` is called with ``apply=False`` first and raises
    ``NotApplied`` with its plan; only the Apply button, or ``apply=True`` here, lets it do the work.

    A form that is made while the same step runs in this process, for the same workspace and target,
    attaches to that run and takes over its values.
    """

    def __init__(
        self,
        settings: SettingsT | type[SettingsT],
        run: Callable[..., ResultT],
        *,
        step: str,
        workspace: Workspace | None = None,
        target: str = "local",
        blockers: Callable[[SettingsT], list[str]] | None = None,
        suggestions: Mapping[str, Callable[[], Iterable[str]]] | None = None,
        folded: Iterable[str] = (),
        standing: Callable[[], object] | None = None,
        good: Callable[[ResultT], bool] | None = None,
        remedy: SecondaryAction[SettingsT, ResultT] | None = None,
        costs: bool = False,
        apply: bool = False,
        action: str = "Run",
    ) -> None:
        self.step = step
        self.action = "Plan" if costs else action
        self.costs = costs
        self.draft: Draft[SettingsT] = Draft(settings)
        self.suggestions = dict(suggestions or {})
        self.folded = frozenset(folded)
        self.standing = standing
        self.good = good
        self.remedy = remedy
        self._run = run
        self._blockers = blockers
        self._apply = apply
        self._slot: Slot = slot(str(workspace.root) if workspace else "", target, step)
        self._watchers: list[Callable[[Operation[Any]], None]] = []
        self._view: Any = None
        self.operation: Operation[ResultT] | None = None
        running = self._slot.running
        if running is not None:
            self.draft.load(running.settings)
            self._adopt(running)

    @property
    def settings(self) -> SettingsT:
        """The current values as settings. Raises :class:`InvalidSettings` with every problem."""
        checked = self.draft.check()
        if checked.settings is None:
            sentences = self._sentences(checked.problems)
            raise InvalidSettings(
                f"{self.step} cannot run with these values:\n" + "\n".join(f"  {line}" for line in sentences),
                next_step="change the values in the form, or in the settings given to it",
                problems=checked.problems,
            )
        return checked.settings

    def set(self, **values: Any) -> None:
        """Change values by name, as typing them into the form does."""
        for name, value in values.items():
            self.draft.put(name, value)
        if self._view is not None:
            self._view.reload(values)

    def blockers(self) -> list[str]:
        """Return what keeps the step from running: invalid values first, then what the step itself lacks."""
        checked = self.draft.check()
        if checked.settings is None:
            return self._sentences(checked.problems)
        return self._blockers(checked.settings) if self._blockers else []

    def _sentences(self, problems: Mapping[str, str]) -> list[str]:
        return [f"{self.draft.spec(name).title}: {text}" if name else text for name, text in problems.items()]

    def start(self, *, apply: bool = False, run: Callable[..., ResultT] | None = None) -> Operation[ResultT]:
        """Start the step in its worker thread; where it is running already, attach to that run.

        ``run`` replaces the form's function for this run. Raises :class:`InvalidSettings` while something
        blocks it.
        """
        running = self._slot.running
        if running is not None:
            return self._adopt(running)
        settings = self.settings
        blocking = self._blockers(settings) if self._blockers and run is None else []
        if blocking:
            raise InvalidSettings(
                f"{self.step} cannot start: {' '.join(blocking)}",
                next_step="settle this, then run it again",
                problems=blocking,
            )
        function, extra = run or self._run, {"apply": apply} if self.costs else {}

        def work(progress: Progress) -> ResultT:
            return function(settings, progress=progress, **extra)

        operation: Operation[ResultT] = Operation(settings, work)
        operation.watch(self._tell)
        self.operation = operation  # before it runs, so that watchers find it
        started = self._slot.start(operation)
        return operation if started is operation else self._adopt(started)

    def _adopt(self, operation: Operation[ResultT]) -> Operation[ResultT]:
        if operation is not self.operation:
            self.operation = operation
            operation.watch(self._tell)
        return operation

    def watch(self, watcher: Callable[[Operation[Any]], None]) -> None:
        """Tell ``watcher``, in the worker's thread, of every change of a run."""
        self._watchers.append(watcher)

    def _tell(self, operation: Operation[Any]) -> None:
        for watcher in self._watchers:
            watcher(operation)

    def cancel(self) -> None:
        """Ask the running step to stop; does nothing where none runs."""
        if self.operation is not None:
            self.operation.cancel()

    def result(self) -> ResultT:
        """Return the step's result, by one rule, interactive or headless.

        Running: waits for it (■ cancels it). Finished with the current values: that result, or raises that
        error. Values changed since: raises :class:`StaleResult` naming the fields. Never run: runs it now.
        """
        operation = self.operation
        if operation is None:
            operation = self.start(apply=self._apply)
        tell = PrintProgress().show if self._view is None else None
        if tell is None and operation.status is RunStatus.RUNNING:  # some frontends queue a press on Cancel
            print(f"{self.step} is running; ■ cancels it.", flush=True)  # noqa: T201
        operation.wait(tell=tell)
        changed = self.draft.changed_since(operation.settings)
        if changed:
            names = ", ".join(self.draft.spec(name).title for name in changed)
            raise StaleResult(
                f"The result of {self.step} is of other values; changed since: {names}.",
                next_step="run the form again, or set the values back",
                fields=changed,
            )
        return operation.outcome()

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        if is_interactive():
            from nbtoolkit.widgets.forms.view import closed_note

            publish_display_data({"text/html": closed_note(self), "text/plain": repr(self)})
        publish_display_data(self._repr_mimebundle_())

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        return mimebundle(self)

    @property
    def view(self) -> Any:
        """The form's widgets, built on first use."""
        if self._view is None:
            from nbtoolkit.widgets.forms.view import FormView

            self._view = FormView(self)
        return self._view

    def _rows(self) -> list[tuple[str, str]]:
        return [(spec.title, self._shown(spec.name)) for spec in self.draft.specs]

    def _shown(self, name: str) -> str:
        if not self.draft.is_set(name):
            return "–"
        if self.draft.spec(name).kind is FieldKind.SECRET:
            return "set, not shown"
        return str(self.draft.shown(name)) or "–"

    def _state(self) -> str:
        return "not run yet" if self.operation is None else self.operation.status.value

    def __repr__(self) -> str:
        lines = [f"{self.step} form ({self._state()})"]
        for spec in self.draft.specs:
            if not self.draft.is_default(spec.name):
                lines.append(f"  {spec.title}: " + self._shown(spec.name).replace("\n", "\n    "))
        return "\n".join(lines + [f"  needs: {blocker}" for blocker in self.blockers()])

    def _repr_html_(self) -> str:
        return (
            page.heading(f"{self.step} ({self._state()})")
            + page.table(self._rows())
            + page.blockers(self.blockers())
        )
