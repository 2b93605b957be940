"""Settings that validate themselves, from keywords or from a notebook's parameters cell."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings.notebook_parameters import Parameters, read_parameters
from nbtoolkit.settings.validation_messages import (
    SettingProblem,
    accepts,
    exposed_secret,
    mangled_text,
    problems_of,
    stale_value,
    unknown_setting,
    value_text,
)
from nbtoolkit.utils.display import html_table

_MAX_ROWS = 10
"""A notebook shows all settings if there are at most this many, and otherwise only the changed ones."""


class Settings(BaseModel):
    """The settings of one step: unknown names are rejected, ``"2"`` becomes 2 and 2 becomes ``"2"``.

    The constructor raises :class:`InvalidSettings` with every invalid setting, the value found and the value
    expected; ``problems`` of the error lists them. The value of a secret is never shown.
    """

    model_config = ConfigDict(
        extra="forbid",
        coerce_numbers_to_str=True,
        protected_namespaces=(),
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    def __init__(self, **values: Any) -> None:
        problems: list[SettingProblem] = []
        for name, value in values.items():
            field = type(self).model_fields.get(name)
            if field is None:
                continue
            if text := mangled_text(field, value):
                problems.append(SettingProblem(name, text))
            if isinstance(value, PurePath) and accepts(field, str) and not accepts(field, PurePath):
                values[name] = str(value)  # such as base=Path(...)
        mangled = {problem.setting for problem in problems}
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = problems_of(type(self), error, values)
            problems += [problem for problem in found if problem.setting not in mangled]
        # not raised in the handler: the chained pydantic error contains the values, also secrets
        if problems:
            raise _invalid(type(self), problems)

    @classmethod
    def from_notebook(
        cls, namespace: Mapping[str, Any] | None = None, *, shared_with: tuple[type[Settings], ...] = ()
    ) -> Self:
        """Return the settings that the notebook's cells have assigned before this call.

        Each name of the kernel's namespace that is a field of this class is a setting, whatever cell set it
        and however its value was computed. Rejected are: a value that cannot be read; a name in the last
        parameters cell that is not a setting, unless a class of ``shared_with`` has it; and a setting that
        was removed from the parameters cell and still has its old value. Outside of IPython, the settings
        are the caller's global names with plain data, or those of ``namespace``.
        Raises :class:`InvalidSettings`.
        """
        other_fields = {name for other in shared_with for name in other.model_fields}
        frame = inspect.currentframe()
        source = namespace if namespace is not None else (frame and frame.f_back) or {}
        found = read_parameters(source, cls.model_fields, other_fields)
        problems = cls._parameter_problems(found, shared_with)
        settings = None
        if not problems:
            try:
                settings = cls(**{name: v for name, v in found.values.items() if name in cls.model_fields})
            except InvalidSettings as error:
                problems = [_with_line(problem, found.lines) for problem in error.problems]
        if settings is not None:
            problems = [
                stale_value(cls, name, value)
                for name, value in found.stale.items()
                if value != getattr(settings, name)
            ]
        if settings is None or problems:  # not raised in the handler, as in __init__
            raise _invalid(cls, problems)
        return settings

    @classmethod
    def _parameter_problems(
        cls, found: Parameters, shared_with: tuple[type[Settings], ...]
    ) -> list[SettingProblem]:
        """Return the problems of unknown names; if there are none, of unreadable values; then of secrets."""
        if found.unknown:
            problems = [unknown_setting(name, cls, *shared_with) for name in found.unknown]
            return [_with_line(problem, found.lines) for problem in problems]
        if found.unreadable:
            hint = "run that cell again, set it in the parameters cell, or run: del"
            return [SettingProblem(n, f"{reason}; {hint} {n}") for n, reason in found.unreadable.items()]
        return [
            exposed_secret(name)
            for name, value in found.values.items()
            if value and cls._is_secret(name) and name not in found.computed
        ]

    @classmethod
    def model_validate(cls, obj: Any, *args: Any, **options: Any) -> Self:
        """Return the settings in a mapping; raises :class:`InvalidSettings`."""
        with _translate_errors(cls, obj):
            return super().model_validate(obj, *args, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, *args: Any, **options: Any) -> Self:
        """Return the settings in a JSON text; raises :class:`InvalidSettings`."""
        with _translate_errors(cls, {}):
            return super().model_validate_json(json_data, *args, **options)

    def changed(self, other: Settings) -> list[str]:
        """Return the names of the settings whose values differ between the two."""
        names = dict.fromkeys([*type(self).model_fields, *type(other).model_fields])
        missing = object()
        return [n for n in names if getattr(self, n, missing) != getattr(other, n, missing)]

    @classmethod
    def _is_secret(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        return field is not None and accepts(field, SecretStr)

    def __str__(self) -> str:
        return self._text(dict(self._rows()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={text}' for name, text in self._rows())})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Display one setting a line; of many settings, only those that differ from their defaults."""
        if cycle:
            printer.text(repr(self))
            return
        rows, default_rows = self._folded_rows()
        more = [f"  and {len(default_rows)} more with their defaults"] if default_rows else []
        printer.text("\n".join([self._text(rows), *more]))

    def _repr_html_(self) -> str:
        rows, default_rows = self._folded_rows()
        table = html_table(rows.items(), type(self).__name__)
        if not default_rows:
            return table
        summary = f"<summary>{len(default_rows)} more with their defaults</summary>"
        return f"{table}<details>{summary}{html_table(default_rows.items())}</details>"

    def _text(self, rows: Mapping[str, str]) -> str:
        width = max(map(len, rows), default=0)
        return "\n".join([type(self).__name__, *(f"  {n:<{width}} = {text}" for n, text in rows.items())])

    def _folded_rows(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the rows to show and those to fold away, as name → text."""
        rows = dict(self._rows())
        if len(rows) <= _MAX_ROWS:
            return rows, {}
        defaults = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in type(self).model_fields.items()
        }
        changed = {name: text for name, text in rows.items() if getattr(self, name) != defaults[name]}
        return changed, {name: text for name, text in rows.items() if name not in changed}

    def _rows(self) -> list[tuple[str, str]]:
        cls = type(self)
        return [(n, value_text(cls, n, getattr(self, n), max_length=500)) for n in cls.model_fields]


def _with_line(problem: SettingProblem, lines: Mapping[str, str]) -> SettingProblem:
    line = lines.get(problem.setting)
    return SettingProblem(problem.setting, f"{problem.text} ({line})") if line else problem


@contextmanager
def _translate_errors(cls: type[Settings], values: Any) -> Generator[None]:
    problems: list[SettingProblem] = []
    try:
        yield
    except ValidationError as error:
        raised = error.errors()[0].get("ctx", {}).get("error")
        if not isinstance(raised, InvalidSettings) or error.errors()[0]["loc"]:
            problems = problems_of(cls, error, values)
        else:  # raised by Settings.__init__ and wrapped by pydantic
            problems = list(raised.problems)
    if problems:
        raise _invalid(cls, problems)


def _invalid(cls: type[Settings], problems: list[SettingProblem]) -> InvalidSettings:
    count = "1 setting is" if len(problems) == 1 else f"{len(problems)} settings are"
    lines = "".join(f"\n  {problem}" for problem in problems)
    return InvalidSettings(
        f"{cls.__name__}: {count} not valid.{lines}",
        next_step="correct " + ", ".join(dict.fromkeys(problem.setting for problem in problems)),
        problems=tuple(problems),
    )
