"""The values of a form while they are being typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings
from nbtoolkit.widgets.forms.fields import OMITTED, FieldSpec, field_specs

SettingsT = TypeVar("SettingsT", bound=Settings)


@dataclass(frozen=True)
class Checked(Generic[SettingsT]):
    """The settings that the typed values make, or what is wrong with which field.

    ``problems`` maps field names to sentences; the name ``""`` holds what concerns several fields.
    """

    settings: SettingsT | None
    problems: dict[str, str] = field(default_factory=dict[str, str])


class Draft(Generic[SettingsT]):
    """Hold what was typed for each field of a settings model, valid or not.

    Starts from the model's defaults, or from given settings.
    """

    def __init__(self, start: SettingsT | type[SettingsT]) -> None:
        self.model: type[SettingsT] = start if isinstance(start, type) else type(start)
        self.specs: tuple[FieldSpec, ...] = field_specs(self.model)
        self._values: dict[str, Any] = {spec.name: spec.default for spec in self.specs}
        self._unread: dict[str, str] = {}
        if not isinstance(start, type):
            self.load(start)

    def load(self, settings: SettingsT) -> None:
        """Take over all values of the given settings."""
        for spec in self.specs:
            self.put(spec.name, getattr(settings, spec.name))

    def put(self, name: str, value: Any) -> None:
        """Set the value of a field; it is validated by :meth:`check`."""
        if name not in self._values:
            raise InvalidSettings(
                f"The form has no field {name!r}.", next_step=f"use one of: {', '.join(self._values)}"
            )
        self._values[name] = value
        self._unread.pop(name, None)

    def put_shown(self, name: str, shown: Any) -> None:
        """Set a field from what its input holds."""
        spec = self.spec(name)
        try:
            self.put(name, spec.read(shown))
        except ValueError as error:
            self._unread[name] = str(error)

    def spec(self, name: str) -> FieldSpec:
        """Return the description of a field."""
        return next(spec for spec in self.specs if spec.name == name)

    def shown(self, name: str) -> Any:
        """Return what the input of a field shall hold."""
        return self.spec(name).show(self._values[name])

    def is_set(self, name: str) -> bool:
        """Tell whether a field has a value, without telling the value."""
        return self._values[name] not in (OMITTED, None)

    def is_default(self, name: str) -> bool:
        """Tell whether a field holds what it holds when nobody touches it."""
        return self._values[name] == self.spec(name).default

    def check(self) -> Checked[SettingsT]:
        """Validate by the model itself; never raises for what was typed."""
        values = {name: value for name, value in self._values.items() if value is not OMITTED}
        try:
            settings = self.model(**values)
        except InvalidSettings as error:
            return Checked(None, {**_problems(error, self.specs), **self._unread})
        if self._unread:
            return Checked(None, dict(self._unread))
        return Checked(settings)

    def changed_since(self, settings: Settings) -> list[str]:
        """Return the names of the fields that differ from the settings of a run."""
        checked = self.check()
        if checked.settings is None:
            return [name for name in checked.problems if name] or list(self._values)
        return checked.settings.changed(settings)


def _problems(error: InvalidSettings, specs: Sequence[FieldSpec]) -> dict[str, str]:
    helps = {spec.name: spec.help for spec in specs}
    problems: dict[str, list[str]] = {}
    for setting, text in getattr(error, "problems", ()):
        name = setting if setting in helps else ""
        if text.startswith("must be set"):
            text = "A value is needed"
        sentence = text.removeprefix("= ").removesuffix(
            f" ({helps.get(name)})"
        )  # the help stands there already
        problems.setdefault(name, []).append(sentence)
    return {name: "; ".join(sentences) for name, sentences in problems.items()} or {"": error.message}
