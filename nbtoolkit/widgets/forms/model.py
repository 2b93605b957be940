"""A form without widgets: its settings, its blockers and its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.progress import Progress
from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.background_run import BackgroundRun, run_slot
from nbtoolkit.widgets.forms.state import FormState
from nbtoolkit.workspace import Workspace

SettingsT = TypeVar("SettingsT", bound=Settings)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class SecondaryAction(Generic[SettingsT, ResultT]):
    """A second button: ``run`` first removes the blockers of the step and then runs the step.

    The button is shown while there are blockers and ``is_applicable(settings)`` is true.
    """

    label: str
    run: Callable[..., ResultT]
    is_applicable: Callable[[SettingsT], bool]


class FormModel(Generic[SettingsT, ResultT]):
    """Hold the values of a form and run its function; see :class:`nbtoolkit.widgets.Form`."""

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
        advanced: Iterable[str] = (),
        status: Callable[[], object] | None = None,
        is_success: Callable[[ResultT], bool] | None = None,
        secondary_action: SecondaryAction[SettingsT, ResultT] | None = None,
        needs_apply: bool = False,
        apply: bool = False,
        run_label: str = "Run",
    ) -> None:
        self.step = step
        self.state: FormState[SettingsT] = FormState(settings)
        self.suggestions = dict(suggestions or {})
        self.advanced = frozenset(advanced)
        self.status = status
        self.is_success = is_success
        self.secondary_action = secondary_action
        self.needs_apply = needs_apply
        self.run_label = "Plan" if needs_apply else run_label
        self.current_run: BackgroundRun[ResultT] | None = None
        """The run in progress, or the last one; None before the first."""
        self._function = run
        self._find_blockers = blockers
        self._apply = apply
        self._slot = run_slot(str(workspace.root) if workspace else "", target, step)
        self._listeners: list[Callable[[BackgroundRun[Any]], None]] = []
        running = self._slot.running
        if running is not None:
            self.state.load(running.settings)
            self._attach(running)

    @property
    def settings(self) -> SettingsT:
        """The current values as settings. Raises :class:`InvalidSettings` with every problem."""
        validated = self.state.validate()
        if validated.settings is None:
            lines = "\n".join(f"  {line}" for line in self._with_titles(validated.problems))
            raise InvalidSettings(
                f"{self.step} cannot run with these values:\n{lines}",
                next_step="change the values in the form, or in the settings given to it",
                problems=validated.problems,
            )
        return validated.settings

    def set(self, **values: Any) -> None:
        """Set values by field name, as typing them into the form does."""
        for name, value in values.items():
            self.state.set_value(name, value)

    def blockers(self) -> list[str]:
        """Return why the step cannot run: the invalid values, or else the blockers of the step."""
        validated = self.state.validate()
        if validated.settings is None:
            return self._with_titles(validated.problems)
        return self._find_blockers(validated.settings) if self._find_blockers else []

    def run_button(self) -> tuple[str, str]:
        """Return the label and the ipywidgets style of the button that runs the step."""
        return self.run_label, "primary"

    def start(
        self, *, apply: bool = False, run: Callable[..., ResultT] | None = None
    ) -> BackgroundRun[ResultT]:
        """Start the step in a worker thread, or attach to its run if it is already running.

        ``run`` replaces the form's function for this run. Raises :class:`InvalidSettings` if the values are
        invalid or the step is blocked.
        """
        running = self._slot.running
        if running is not None:
            return self._attach(running)
        settings = self.settings
        blockers = self._find_blockers(settings) if self._find_blockers and run is None else []
        if blockers:
            raise InvalidSettings(
                f"{self.step} cannot start: {' '.join(blockers)}",
                next_step="fix this, then run it again",
                problems=blockers,
            )
        function, options = run or self._function, {"apply": apply} if self.needs_apply else {}

        def call(progress: Progress) -> ResultT:
            return function(settings, progress=progress, **options)

        new_run: BackgroundRun[ResultT] = BackgroundRun(settings, call)
        new_run.subscribe(self._notify)
        self.current_run = new_run  # set before the start, because listeners read it
        started = self._slot.start(new_run)
        return new_run if started is new_run else self._attach(started)

    def _attach(self, run: BackgroundRun[ResultT]) -> BackgroundRun[ResultT]:
        if run is not self.current_run:
            self.current_run = run
            run.subscribe(self._notify)
        return run

    def subscribe(self, listener: Callable[[BackgroundRun[Any]], None]) -> None:
        """Call ``listener`` on every change of a run, in the run's worker thread."""
        self._listeners.append(listener)

    def _notify(self, run: BackgroundRun[Any]) -> None:
        for listener in self._listeners:
            listener(run)

    def cancel(self) -> None:
        """Cancel the running step; does nothing if none is running."""
        if self.current_run is not None:
            self.current_run.cancel()

    def titles(self, names: Iterable[str]) -> str:
        """Return the titles of the named fields, separated by commas."""
        return ", ".join(self.state.spec(name).title for name in names)

    def _with_titles(self, problems: Mapping[str, str]) -> list[str]:
        return [f"{self.titles([name])}: {text}" if name else text for name, text in problems.items()]
