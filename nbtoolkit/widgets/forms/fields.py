"""What a form needs to know of one settings field, and its way to text and back."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined


class FieldKind(Enum):
    """How a field is typed in."""

    TEXT = "text"
    PARAGRAPH = "paragraph"
    FLAG = "flag"
    CHOICE = "choice"
    PICKS = "picks"
    LINES = "lines"
    TABLE = "table"
    SECRET = "secret"  # noqa: S105 - a kind of field, not a password


OMITTED: Any = object()
"""The input says nothing, so that the model's default, or its "required", applies."""

_TEXTS = (str, Path, int, float)


@dataclass(frozen=True)
class FieldSpec:
    """One settings field as a form shows it.

    ``choices`` are pairs of label and value; ``default`` is ``OMITTED`` where a value is required.
    """

    name: str
    title: str
    help: str
    kind: FieldKind
    optional: bool = False
    advanced: bool = False
    choices: tuple[tuple[str, Any], ...] = ()
    default: Any = OMITTED

    @property
    def required(self) -> bool:
        """Tell whether the model has no value of its own for it."""
        return self.default is OMITTED

    def show(self, value: Any) -> Any:
        """Return what the input holds for a value: text, a flag, a choice's label or the labels picked.

        A secret is never shown: its input is always empty.
        """
        if self.kind is FieldKind.SECRET:
            return ""
        if self.kind is FieldKind.FLAG:
            return bool(value)
        if self.kind is FieldKind.CHOICE:
            return next(label for label, choice in self.choices if choice == value)
        if self.kind is FieldKind.PICKS:
            return () if value in (None, OMITTED) else tuple(str(item) for item in value)
        if value is None or value is OMITTED:
            return ""
        if self.kind is FieldKind.LINES:
            return "\n".join(str(item) for item in value)
        if self.kind is FieldKind.TABLE:
            return "\n".join(f"{name} = {item}" for name, item in value.items())
        return str(value)

    def read(self, shown: Any) -> Any:
        """Return the value that an input stands for, not yet validated; nothing typed means the default.

        Raises ValueError, with a sentence for the user, where a line is no ``name = value``.
        """
        if self.kind is FieldKind.FLAG:
            return shown
        if self.kind is FieldKind.CHOICE:
            return dict(self.choices)[shown]
        if self.kind is FieldKind.PICKS:
            return [dict(self.choices)[label] for label in shown]
        text = str(shown)
        if not text.strip():
            return None if self.optional else OMITTED
        if self.kind is FieldKind.SECRET:
            return SecretStr(text)
        if self.kind is FieldKind.LINES:
            return [line.strip() for line in text.splitlines() if line.strip()]
        if self.kind is FieldKind.TABLE:
            return _read_table(text)
        return text if self.kind is FieldKind.PARAGRAPH else text.strip()


def _read_table(text: str) -> dict[str, str]:
    table: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not (name and equals and value):
            raise ValueError(f"line {number}, {line.strip()!r}, is not of the form: name = value")
        if name in table:
            raise ValueError(f"line {number} names {name!r} a second time")
        table[name] = value
    return table


def field_specs(model: type[BaseModel]) -> tuple[FieldSpec, ...]:
    """Describe every field of a settings model, in its order.

    Raises TypeError for a field whose type has no input.
    """
    hints = typing.get_type_hints(model, include_extras=False)
    return tuple(_spec(name, info, hints[name]) for name, info in model.model_fields.items())


def _spec(name: str, info: FieldInfo, hint: Any) -> FieldSpec:
    extra: Mapping[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    bare, optional = _without_none(_without_annotation(hint))
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


def _without_annotation(hint: Any) -> Any:
    while typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return hint


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    members = [_without_annotation(member) for member in typing.get_args(hint)]
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
    if hint in _TEXTS:
        return (FieldKind.PARAGRAPH if multiline else FieldKind.TEXT), ()
    if origin in (list, tuple, set, frozenset):
        inner = _without_annotation((typing.get_args(hint) or (str,))[0])
        if typing.get_origin(inner) is Literal:
            return FieldKind.PICKS, tuple((str(value), value) for value in typing.get_args(inner))
        return FieldKind.LINES, ()
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return FieldKind.TABLE, ()
    raise TypeError(f"The form has no input for field {name!r} of type {hint!r}; use a type from fields.py.")
