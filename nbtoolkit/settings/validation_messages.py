"""Error messages for invalid settings; they never contain a secret."""

from __future__ import annotations

import difflib
import math
import re
import typing
from pathlib import PurePath
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nbtoolkit.errors import InvalidSettings, NbtoolkitError

_SECRET_NAME = re.compile(
    r"(^|_)(key|keys|token|secret|password|passwd|pwd|credential|connection_string|sas)(_|$)", re.I
)
_VALIDATOR_ERRORS = ("value_error", "assertion_error")
"""Types of errors raised by a validator of the settings class: their text is a message for the user."""

_MAX_LENGTH = 120
"""Characters of a value in a message."""

_EXPECTED = {
    "missing": "must be set",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "True or False",
    "bool_type": "True or False",
    "string_type": "text",
    "path_type": "a path",
    "dict_type": "a mapping of names",
    "mapping_type": "a mapping of names",
    "list_type": "a list",
    "tuple_type": "a list",
    "none_required": "None",
    "literal_error": "one of {expected}",
    "enum": "one of {expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}


class SettingProblem(NamedTuple):
    """The problem of one setting; ``text`` continues the sentence that starts with its name."""

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting} {self.text}"


def problems_of(cls: type[BaseModel], error: ValidationError, values: Any) -> list[SettingProblem]:
    """Return the problems in pydantic's error, one per location; alternatives of a union are joined."""
    by_location: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_location.setdefault(_input_location(detail, values), []).append(detail)
    problems = [_problem(cls, location, details) for location, details in by_location.items()]
    # missing settings last: a misspelt name explains them
    return sorted(problems, key=lambda problem: problem.text.startswith("must"))


def _input_location(detail: ErrorDetails, values: Any) -> tuple[int | str, ...]:
    """Return the part of the location that exists in the input; the rest names alternatives of a union."""
    if detail["type"] in ("extra_forbidden", "missing"):
        return detail["loc"]  # not in the input, or not a field
    location: list[int | str] = []
    for part in detail["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            break
        location.append(part)
    return tuple(location) or detail["loc"][:1]


def _problem(
    cls: type[BaseModel], location: tuple[int | str, ...], details: list[ErrorDetails]
) -> SettingProblem:
    if not location:
        return SettingProblem(cls.__name__, _message(details[0]))  # not the input, which may contain secrets
    setting = str(location[0])
    item = "".join(f"[{part!r}]" for part in location[1:])
    item += " " * bool(item)
    first = details[0]
    if first["type"] == "extra_forbidden":
        hint = "remove it" if len(location) > 1 else _nearest(setting, cls)
        return SettingProblem(setting, f"{item}is not a setting; {hint}")
    description = _description(cls, setting)
    if first["type"] == "missing":
        return SettingProblem(setting, f"{item}must be set{description}")
    found = value_text(cls, setting, first["input"])
    raised = [_message(detail) for detail in details if detail["type"] in _VALIDATOR_ERRORS]
    if raised:
        return SettingProblem(setting, f"{item}= {found}: {'; '.join(raised)}")
    expected = [message for message in dict.fromkeys(map(_message, details)) if message != "None"]
    return SettingProblem(setting, f"{item}= {found}: wanted {' or '.join(expected) or 'None'}{description}")


def _message(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    raised = context.get("error")
    if detail["type"] in _VALIDATOR_ERRORS:
        if isinstance(raised, InvalidSettings) and raised.problems:
            return "; ".join(map(str, raised.problems))
        return raised.message if isinstance(raised, NbtoolkitError) else str(raised)
    template = _EXPECTED.get(detail["type"])
    if template is None:
        return detail["msg"][:1].lower() + detail["msg"][1:]
    return template.format_map(context)


def _description(cls: type[BaseModel], setting: str) -> str:
    field = cls.model_fields.get(setting)
    return f" ({field.description})" if field and field.description else ""


def unknown_setting(name: str, *models: type[BaseModel]) -> SettingProblem:
    """Return the problem of a name that is not a setting of these models."""
    return SettingProblem(name, f"is not a setting; {_nearest(name, *models)}")


def exposed_secret(name: str) -> SettingProblem:
    """Return the problem of a secret as a notebook parameter, which papermill writes into its output."""
    return SettingProblem(
        name,
        "is a secret and must not be a notebook parameter: papermill writes those into its output; remove it "
        "there too, and type it into the form, or read it from the kernel's environment in code",
    )


def stale_value(cls: type[BaseModel], name: str, value: Any) -> SettingProblem:
    """Return the problem of a setting that was removed from the parameters cell and keeps its old value."""
    return SettingProblem(
        name,
        f"was set to {value_text(cls, name, value)} in an earlier cell, and the last parameters cell does "
        f"not set it; set it there, or run: del {name}",
    )


def _nearest(name: str, *models: type[BaseModel]) -> str:
    names = [field for model in models for field in model.model_fields]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"the settings are: {', '.join(names)}"


def value_text(cls: type[BaseModel], name: str, value: Any, max_length: int = _MAX_LENGTH) -> str:
    """Return a value as text of at most ``max_length`` characters, paths in quotes, secrets hidden."""
    field = cls.model_fields.get(name)
    if value is not None and (
        _SECRET_NAME.search(name) or (field and accepts(field, (SecretStr, SecretBytes)))
    ):
        return "(hidden)"
    text = repr(_without_paths(value))
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def _without_paths(value: Any, depth: int = 4) -> Any:
    """Return a value with paths as text, to ``depth`` levels, because a list may contain itself."""
    if isinstance(value, PurePath):
        return str(value)
    if depth and type(value) in (list, tuple, set):
        return type(value)(_without_paths(item, depth - 1) for item in value)
    if depth and type(value) is dict:
        return {
            _without_paths(name, depth - 1): _without_paths(item, depth - 1) for name, item in value.items()
        }
    return value


def accepts(field: FieldInfo, kind: type | tuple[type, ...]) -> bool:
    """Return whether the setting itself (not an entry of it) can have that type."""
    return any(isinstance(part, type) and issubclass(part, kind) for part in _alternatives(field.annotation))


def mangled_text(field: FieldInfo, value: Any) -> str | None:
    """Return the problem of a number that ``papermill -p`` converted from text; None if there is none.

    ``3e12345`` becomes infinity and ``1e3`` becomes 1000.0: the original text is lost.
    """
    if not isinstance(value, float) or not accepts(field, str) or accepts(field, float):
        return None
    if math.isfinite(value) and not value.is_integer():
        return None
    return f"= {value!r}: wanted text, not a number; papermill -p guesses types: pass it with -r, or quote it"


def _alternatives(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin is typing.Union or getattr(origin, "__name__", "") == "UnionType":
        return [part for arg in typing.get_args(annotation) for part in _alternatives(arg)]
    return [annotation]
