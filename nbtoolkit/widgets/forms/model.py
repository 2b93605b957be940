"""A form without widgets: its values, valid or not, its blockers and its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.progress import Progress
from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.background_run import BackgroundRun, RunKey, RunStatus, running, start_once
from nbtoolkit.widgets.forms.fields import OMITTED, FieldSpec, field_specs
from nbtoolkit.workspace import Workspace

SettingsT = TypeVar("SettingsT", bound=Settings)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ValidationResult(Generic[SettingsT]):
    """The settings with the current values, or the problems of invalid values.

    ``problems`` maps field names to sentences; the name ``""`` has those that concern several fields.
    """

    settings: SettingsT | None
    problems: dict[str, str] = field(default_factory=dict[str, str])


class FormState(Generic[SettingsT]):
    """Hold the value of each field of a settings model.

    The initial values are the defaults of the model, or those of ``initial`` settings.
    """

    def __init__(self, initial: SettingsT | type[SettingsT]) -> None:
        self.model: type[SettingsT] = initial if isinstance(initial, type) else type(initial)
        self.specs: tuple[FieldSpec, ...] = field_specs(self.model)
        self._values: dict[str, Any] = {spec.name: spec.default for spec in self.specs}
        self._input_errors: dict[str, str] = {}
        if not isinstance(initial, type):
            self.load(initial)

    def load(self, settings: SettingsT) -> None:
        """Set all values to those of the given settings."""
        for spec in self.specs:
            self.set_value(spec.name, getattr(settings, spec.name))

    def set_value(self, name: str, value: Any) -> None:
        """Set the value of a field; :meth:`validate` validates it."""
        if name not in self._values:
            raise InvalidSettings(
                f"The form has no field {name!r}.", next_step=f"use one of: {', '.join(self._values)}"
            )
        self._values[name] = value
        self._input_errors.pop(name, None)

    def set_input(self, name: str, entered: Any) -> None:
        """Set the value of a field from its input widget."""
        spec = self.spec(name)
        try:
            self.set_value(name, spec.from_input(entered))
        except ValueError as error:
            self._input_errors[name] = str(error)

    def spec(self, name: str) -> FieldSpec:
        """Return the description of a field."""
        return next(spec for spec in self.specs if spec.name == name)

    def input_value(self, name: str) -> Any:
        """Return the value for the input widget of a field."""
        return self.spec(name).to_input(self._values[name])

    def is_set(self, name: str) -> bool:
        """Return whether a field has a value, without revealing it."""
        return self._values[name] not in (OMITTED, None)

    def is_default(self, name: str) -> bool:
        """Return whether a field has its default value."""
        return self._values[name] == self.spec(name).default

    def validate(self) -> ValidationResult[SettingsT]:
        """Validate the values with the settings model; never raises for invalid values."""
        values = {name: value for name, value in self._values.items() if value is not OMITTED}
        try:
            settings = self.model(**values)
        except InvalidSettings as error:
            return ValidationResult(None, {**_problems(error, self.specs), **self._input_errors})
        if self._input_errors:
            return ValidationResult(None, dict(self._input_errors))
        return ValidationResult(settings)

    def changed_since(self, settings: Settings) -> list[str]:
        """Return the names of the fields that differ from the settings of a run."""
        validated = self.validate()
        if validated.settings is None:
            return [name for name in validated.problems if name] or list(self._values)
        return validated.settings.changed(settings)


def _problems(error: InvalidSettings, specs: Sequence[FieldSpec]) -> dict[str, str]:
    helps = {spec.name: spec.help for spec in specs}
    problems: dict[str, list[str]] = {}
    for setting, text in error.problems:
        name = setting if setting in helps else ""
        if text.startswith("must be set"):
            text = "A value is needed"
        # the form shows the help text of the field anyway
        sentence = text.removeprefix("= ").removesuffix(f" ({helps.get(name)})")
        problems.setdefault(name, []).append(sentence)
    return {name: "; ".join(sentences) for name, sentences in problems.items()} or {"": error.message}


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
        recommend: Callable[[BackgroundRun[Any]], Mapping[str, Any]] | None = None,
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
        self._recommend = recommend
        self._apply = apply
        self._key: RunKey = (str(workspace.root) if workspace else "", target, step)
        self._listeners: list[Callable[[BackgroundRun[Any]], None]] = []
        run_in_progress = running(self._key)
        if run_in_progress is not None:
            self.state.load(run_in_progress.settings)
            self._attach(run_in_progress)

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

    def recommended(self) -> dict[str, Any]:
        """Return the values that the ended run recommends and that the form does not have yet."""
        run = self.current_run
        if self._recommend is None or run is None or run.status is RunStatus.RUNNING:
            return {}
        specs = {spec.name: spec for spec in self.state.specs}
        return {
            name: value
            for name, value in self._recommend(run).items()
            if name in specs and specs[name].to_input(value) != self.state.input_value(name)
        }

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
        run_in_progress = running(self._key)
        if run_in_progress is not None:
            return self._attach(run_in_progress)
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
        return self._attach(start_once(self._key, new_run))

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
