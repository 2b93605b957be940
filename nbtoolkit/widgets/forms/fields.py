"""Describe settings fields for a form, and convert their values to input widgets and back."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class FieldKind(Enum):
    """The kind of input widget of a field."""

    TEXT = "text"
    PARAGRAPH = "paragraph"
    FLAG = "flag"
    CHOICE = "choice"
    MULTI_CHOICE = "multi_choice"
    LINES = "lines"
    MAPPING = "mapping"
    SECRET = "secret"  # noqa: S105 - a kind of field, not a password


OMITTED: Any = object()
"""The input is empty, so the default of the model applies, or its "required" error."""

_TEXT_TYPES = (str, Path, int, float)


@dataclass(frozen=True)
class FieldSpec:
    """The description of one settings field.

    ``choices`` are pairs of label and value; ``default`` is ``OMITTED`` if a value is required.
    """

    name: str
    title: str
    help: str
    kind: FieldKind
    optional: bool = False
    advanced: bool = False
    choices: tuple[tuple[str, Any], ...] = ()
    default: Any = OMITTED

    def to_input(self, value: Any) -> Any:
        """Return the input for a value: a text, a flag, the label of a choice or the selected labels.

        The input of a secret is always empty.
        """
        if self.kind is FieldKind.SECRET:
            return ""
        if self.kind is FieldKind.FLAG:
            return bool(value)
        if self.kind is FieldKind.CHOICE:
            return next(label for label, choice in self.choices if choice == value)
        if self.kind is FieldKind.MULTI_CHOICE:
            return () if value in (None, OMITTED) else tuple(str(item) for item in value)
        if value is None or value is OMITTED:
            return ""
        if self.kind is FieldKind.LINES:
            return "\n".join(str(item) for item in value)
        if self.kind is FieldKind.MAPPING:
            return "\n".join(f"{name} = {item}" for name, item in value.items())
        return str(value)

    def from_input(self, entered: Any) -> Any:
        """Return the value of an input, not yet validated; an empty input means the default.

        Raises ValueError with a message for the user if a line is not ``name = value``.
        """
        if self.kind is FieldKind.FLAG:
            return entered
        if self.kind is FieldKind.CHOICE:
            return dict(self.choices)[entered]
        if self.kind is FieldKind.MULTI_CHOICE:
            return [dict(self.choices)[label] for label in entered]
        text = str(entered)
        if not text.strip():
            return None if self.optional else OMITTED
        if self.kind is FieldKind.SECRET:
            return SecretStr(text)
        if self.kind is FieldKind.LINES:
            return [line.strip() for line in text.splitlines() if line.strip()]
        if self.kind is FieldKind.MAPPING:
            return _parse_mapping(text)
        return text if self.kind is FieldKind.PARAGRAPH else text.strip()


def _parse_mapping(text: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not (name and equals and value):
            raise ValueError(f"line {number}, {line.strip()!r}, is not of the form: name = value")
        if name in mapping:
            raise ValueError(f"line {number} repeats the name {name!r}")
        mapping[name] = value
    return mapping


def field_specs(model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """Return the descriptions of all fields of a settings model, in its order.

    Raises TypeError for a field whose type has no input widget.
    """
    hints = typing.get_type_hints(model)  # without Annotated
    return tuple(_spec(name, info, hints[name]) for name, info in model.model_fields.items())


def _spec(name: str, info: FieldInfo, hint: Any) -> FieldSpec:
    extra: Mapping[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    bare, optional = _without_none(hint)
    kind, choices = _kind(name, bare, multiline=bool(extra.get("multiline")))
    if kind is FieldKind.FLAG and optional:
        kind, choices = FieldKind.CHOICE, (("yes", True), ("no", False))
    if kind is FieldKind.CHOICE and optional:
        choices = (("default", None), *choices)
    elif kind is FieldKind.CHOICE and info.is_required():
        choices = (("choose…", OMITTED), *choices)
    default = info.get_default(call_default_factory=True, validated_data={})
    return FieldSpec(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        help=info.description or "",
        kind=kind,
        optional=optional,
        advanced=bool(extra.get("advanced")),
        choices=choices,
        default=OMITTED if default is PydanticUndefined else default,
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    members = typing.get_args(hint)
    rest = [member for member in members if member is not type(None)]
    return (rest[0] if len(rest) == 1 else hint), len(rest) < len(members)


def _kind(name: str, hint: Any, *, multiline: bool) -> tuple[FieldKind, tuple[tuple[str, Any], ...]]:
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        return FieldKind.CHOICE, tuple((str(value), value) for value in typing.get_args(hint))
    if hint is bool:
        return FieldKind.FLAG, ()
    if hint is SecretStr:
        return FieldKind.SECRET, ()
    if hint in _TEXT_TYPES:
        return (FieldKind.PARAGRAPH if multiline else FieldKind.TEXT), ()
    if origin in (list, tuple, set, frozenset):
        inner = (typing.get_args(hint) or (str,))[0]
        if typing.get_origin(inner) is Literal:
            return FieldKind.MULTI_CHOICE, tuple((str(value), value) for value in typing.get_args(inner))
        return FieldKind.LINES, ()
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return FieldKind.MAPPING, ()
    raise TypeError(
        f"The form has no input widget for field {name!r} of type {hint!r}; use a type that _kind() supports."
    )
