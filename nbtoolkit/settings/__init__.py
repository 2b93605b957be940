"""Settings that check themselves, from keywords or from a notebook's parameters cell."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import notebook_parameters as settings_sources
from nbtoolkit.settings import validation_messages as settings_problems
from nbtoolkit.settings.validation_messages import SettingProblem, accepts, mangled_text
from nbtoolkit.utils.display import html_table

_MANY = 10
"""More settings than these are not all shown at once in a notebook."""


class Settings(BaseModel):
    """The settings of one step: unknown names are refused, ``"2"`` becomes 2 and 2 becomes ``"2"``.

    Construction raises :class:`InvalidSettings`, which names every bad setting, the value found and what
    is wanted; a secret's value is never shown. ``problems`` of the error holds them one by one.
    """

    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        mangled = {name: text for name, text in map(self._mangled, values.items()) if text}
        values = {name: self._plain(name, value) for name, value in values.items()}
        problems = [SettingProblem(name, text) for name, text in mangled.items()]
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = settings_problems.read(type(self), error, values)
            problems += [problem for problem in found if problem.setting not in mangled]
        if problems:  # raised outside of the handler: pydantic's own error carries the values, secrets too
            raise _invalid(type(self), problems)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return the settings, the same as calling the class; raises :class:`InvalidSettings`."""
        return cls(**values)

    @classmethod
    def from_notebook(
        cls, namespace: Mapping[str, Any] | None = None, *, shared_with: tuple[type[Settings], ...] = ()
    ) -> Self:
        """Return the settings that the notebook's cells have assigned before this call.

        A setting is every name of the kernel's namespace that is a field of this class, whatever cell set it
        and however its value was computed. Refused are: a value that cannot be read, a name in the last
        parameters cell that is not a setting, unless a class of ``shared_with`` has it, and a setting that
        was taken out of the parameters cell and still has its old value. Outside of IPython the caller's
        global names with plain data count, or those of ``namespace``. Raises :class:`InvalidSettings`.
        """
        elsewhere = {name for other in shared_with for name in other.model_fields}
        if namespace is not None:
            names = settings_sources.plain_names(namespace)
            unknown = [name for name in names if name not in cls.model_fields and name not in elsewhere]
            found = settings_sources.Parameters(names, unknown)
        else:
            here = inspect.currentframe()
            found = settings_sources.parameters(here.f_back if here else None, cls.model_fields, elsewhere)
        if found.unknown:
            problems = [settings_problems.unknown(name, cls, *shared_with) for name in found.unknown]
            raise _invalid(cls, [_placed(problem, found.places) for problem in problems])
        if found.unreadable:
            hint = "run that cell again, set it in the parameters cell, or run: del"
            raise _invalid(
                cls, [SettingProblem(n, f"{why}; {hint} {n}") for n, why in found.unreadable.items()]
            )
        exposed = [n for n, value in found.values.items() if value and _is_secret(cls, n)]
        if exposed := [name for name in exposed if name not in found.computed]:
            raise _invalid(cls, [settings_problems.exposed(name) for name in exposed])
        problems = []
        settings = None
        try:
            settings = cls(**{name: v for name, v in found.values.items() if name in cls.model_fields})
        except InvalidSettings as error:
            problems = [_placed(problem, found.places) for problem in error.problems]
        if settings is None:  # raised outside of the handler, as in __init__
            raise _invalid(cls, problems)
        forgotten = [
            SettingProblem(
                name,
                f"was set to {settings_problems.shown(cls, name, value)} in an earlier cell, and the "
                f"last parameters cell does not set it; set it there, or run: del {name}",
            )
            for name, value in found.stale.items()
            if value != getattr(settings, name)
        ]
        if forgotten:
            raise _invalid(cls, forgotten)
        return settings

    @classmethod
    def model_validate(cls, obj: Any, *args: Any, **options: Any) -> Self:
        """Return the settings in a mapping; raises :class:`InvalidSettings`."""
        with _translated(cls, obj):
            return super().model_validate(obj, *args, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, *args: Any, **options: Any) -> Self:
        """Return the settings in a JSON text; raises :class:`InvalidSettings`."""
        with _translated(cls, {}):
            return super().model_validate_json(json_data, *args, **options)

    def changed(self, other: Settings) -> list[str]:
        """Return the names of the settings whose values differ between the two."""
        names = [
            *type(self).model_fields,
            *(n for n in type(other).model_fields if n not in type(self).model_fields),
        ]
        missing = object()
        return [n for n in names if getattr(self, n, missing) != getattr(other, n, missing)]

    @classmethod
    def _mangled(cls, item: tuple[str, Any]) -> tuple[str, str | None]:
        name, value = item
        field = cls.model_fields.get(name)
        return name, mangled_text(field, value) if field else None

    @classmethod
    def _plain(cls, name: str, value: Any) -> Any:
        """Turn a path into text where only text is wanted, as ``base=Path(...)`` would."""
        field = cls.model_fields.get(name)
        takes_text = field is not None and accepts(field, str) and not accepts(field, PurePath)
        return str(value) if takes_text and isinstance(value, PurePath) else value

    def __str__(self) -> str:
        width = max(map(len, type(self).model_fields), default=0)
        lines = [f"  {name:<{width}} = {text}" for name, text in self._rows()]
        return "\n".join([type(self).__name__, *lines])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self._rows())})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show a notebook's plain text one setting a line."""
        printer.text(repr(self) if cycle else self._brief())

    def _brief(self) -> str:
        """Return the text; of many settings only those that differ from their defaults."""
        told, rest = self._told()
        if not rest:
            return str(self)
        width = max(map(len, told), default=0)
        lines = [f"  {name:<{width}} = {text}" for name, text in told.items()]
        return "\n".join([type(self).__name__, *lines, f"  and {len(rest)} more as they are by default"])

    def _repr_html_(self) -> str:
        told, rest = self._told()
        table = html_table(told.items(), type(self).__name__)
        if not rest:
            return table
        more = html_table(rest.items())
        return f"{table}<details><summary>{len(rest)} more as they are by default</summary>{more}</details>"

    def _told(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return what is shown at once and what is folded away, as name → text."""
        rows = dict(self._rows())
        if len(rows) <= _MANY:
            return rows, {}
        defaults = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in type(self).model_fields.items()
        }
        told = {name: text for name, text in rows.items() if getattr(self, name) != defaults[name]}
        return told, {name: text for name, text in rows.items() if name not in told}

    def _rows(self) -> list[tuple[str, str]]:
        return [
            (n, settings_problems.shown(type(self), n, getattr(self, n), 500))
            for n in type(self).model_fields
        ]


def _is_secret(cls: type[Settings], name: str) -> bool:
    field = cls.model_fields.get(name)
    return field is not None and accepts(field, SecretStr)


def _placed(problem: SettingProblem, places: Mapping[str, str]) -> SettingProblem:
    place = places.get(problem.setting)
    return SettingProblem(problem.setting, f"{problem.text} ({place})") if place else problem


@contextmanager
def _translated(cls: type[Settings], values: Any) -> Generator[None]:
    problems: list[SettingProblem] = []
    try:
        yield
    except ValidationError as error:
        raised = error.errors()[0].get("ctx", {}).get("error")
        if not isinstance(raised, InvalidSettings) or error.errors()[0]["loc"]:
            problems = settings_problems.read(cls, error, values)
        else:  # from our own constructor, which pydantic has wrapped
            problems = list(raised.problems)
    if problems:
        raise _invalid(cls, problems)


def _invalid(cls: type[Settings], problems: list[SettingProblem]) -> InvalidSettings:
    count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return InvalidSettings(
        f"{cls.__name__}: {count} not acceptable.{lines}",
        next_step="correct " + ", ".join(dict.fromkeys(problem.setting for problem in problems)),
        problems=tuple(problems),
    )
