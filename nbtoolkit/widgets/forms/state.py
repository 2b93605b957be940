"""The values of a form while the user types them, valid or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.fields import OMITTED, FieldSpec, field_specs

SettingsT = TypeVar("SettingsT", bound=Settings)


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
        """Tell whether a field has a value, without revealing it."""
        return self._values[name] not in (OMITTED, None)

    def is_default(self, name: str) -> bool:
        """Tell whether a field has its default value."""
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
