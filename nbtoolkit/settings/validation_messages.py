"""What is wrong with a setting, in words that help and never show a secret."""

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

from nbtoolkit.errors import NbtoolkitError

_SECRET_NAME = re.compile(
    r"(^|_)(key|keys|token|secret|password|passwd|pwd|credential|connection_string|sas)(_|$)", re.I
)
_RAISED = ("value_error", "assertion_error")
"""Errors that a validator of the settings themselves raised: their text is meant for the user."""

_SHOWN = 120

_WANTED = {
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
    """One setting, and what is wrong with it as a sentence's end."""

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting} {self.text}"


def read(cls: type[BaseModel], error: ValidationError, values: Any) -> list[SettingProblem]:
    """Return what pydantic found, one problem for each place; alternatives of a union are joined."""
    places: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        places.setdefault(_place(detail, values), []).append(detail)
    problems = [_problem(cls, place, details) for place, details in places.items()]
    return sorted(
        problems, key=lambda problem: problem.text.startswith("must")
    )  # a misspelt name explains them


def _place(detail: ErrorDetails, values: Any) -> tuple[int | str, ...]:
    """Return the part of the location that exists in the input: the rest are the names of alternatives."""
    if detail["type"] in ("extra_forbidden", "missing"):
        return detail["loc"]  # what does not exist, or should not
    place: list[int | str] = []
    for part in detail["loc"]:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            break
        place.append(part)
    return tuple(place) or detail["loc"][:1]


def _problem(
    cls: type[BaseModel], place: tuple[int | str, ...], details: list[ErrorDetails]
) -> SettingProblem:
    if not place:
        return SettingProblem(cls.__name__, _message(details[0]))  # the whole input, which may hold secrets
    setting = str(place[0])
    where = "".join(f"[{part!r}]" for part in place[1:])
    where += " " * bool(where)
    first = details[0]
    if first["type"] == "extra_forbidden":
        hint = "remove it" if len(place) > 1 else _nearest(setting, cls)
        return SettingProblem(setting, f"{where}is no setting; {hint}")
    described = _described(cls, setting)
    if first["type"] == "missing":
        return SettingProblem(setting, f"{where}must be set{described}")
    found = shown(cls, setting, first["input"])
    own = [_message(detail) for detail in details if detail["type"] in _RAISED]
    if own:
        return SettingProblem(setting, f"{where}= {found}: {'; '.join(own)}")
    wanted = [message for message in dict.fromkeys(map(_message, details)) if message != "None"]
    return SettingProblem(setting, f"{where}= {found}: wanted {' or '.join(wanted) or 'None'}{described}")


def _message(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    raised = context.get("error")
    if detail["type"] in _RAISED:
        inner = getattr(raised, "problems", None)
        if inner:
            return "; ".join(map(str, inner))
        return raised.message if isinstance(raised, NbtoolkitError) else str(raised)
    template = _WANTED.get(detail["type"])
    if template is None:
        return detail["msg"][:1].lower() + detail["msg"][1:]
    return template.format_map(context)


def _described(cls: type[BaseModel], setting: str) -> str:
    field = cls.model_fields.get(setting)
    return f" ({field.description})" if field and field.description else ""


def unknown(name: str, *models: type[BaseModel]) -> SettingProblem:
    """Return the problem of a name that is a setting of none of these."""
    return SettingProblem(name, f"is no setting; {_nearest(name, *models)}")


def exposed(name: str) -> SettingProblem:
    """Return the problem of a secret in a notebook's parameter, which papermill writes into its output."""
    return SettingProblem(
        name,
        "is a secret and so no parameter of a notebook: papermill writes those into its output; take it "
        "out there too, and type it into the form, or read it from the kernel's environment in code",
    )


def _nearest(name: str, *models: type[BaseModel]) -> str:
    names = [field for model in models for field in model.model_fields]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"


def shown(cls: type[BaseModel], name: str, value: Any, limit: int = _SHOWN) -> str:
    """Return a value as text, paths as plain quotes, cut at ``limit`` characters; a secret's is hidden."""
    field = cls.model_fields.get(name)
    if value is not None and (_SECRET_NAME.search(name) or (field and _any(field, SecretStr, SecretBytes))):
        return "(hidden)"
    text = repr(_plain(value))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _plain(value: Any, depth: int = 4) -> Any:
    """Return a value with its paths as text; below ``depth`` levels, as in a list of itself, unchanged."""
    if isinstance(value, PurePath):
        return str(value)
    if depth and type(value) in (list, tuple, set):
        return type(value)(_plain(item, depth - 1) for item in value)
    if depth and type(value) is dict:
        return {_plain(name, depth - 1): _plain(item, depth - 1) for name, item in value.items()}
    return value


def accepts(field: FieldInfo, wanted: type) -> bool:
    """Tell whether the setting itself (not an entry of it) may be of that type."""
    return any(
        isinstance(part, type) and issubclass(part, wanted) for part in _alternatives(field.annotation)
    )


def mangled_text(field: FieldInfo, value: Any) -> str | None:
    """Tell what is wrong with a number that ``papermill -p`` made out of a text; None where nothing is.

    ``3e12345`` becomes infinity and ``1e3`` becomes 1000.0: the text that was meant is lost.
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


def _any(field: FieldInfo, *types: type) -> bool:
    return any(accepts(field, wanted) for wanted in types)
