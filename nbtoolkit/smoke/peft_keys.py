"""What a peft version knows in an ``adapter_config.json``: the committed table, and how it is made.

``python -m nbtoolkit.smoke.peft_keys`` adds the installed peft's version to ``peft_keys.json``.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("peft_keys.json")

Known = dict[str, dict[str, Any]]
"""Config key → ``types`` (JSON type names) and ``default``."""

_JSON_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def serving_version() -> str | None:
    """Return the version of the installed peft, without importing it; None where there is none."""
    try:
        return metadata.version("peft")
    except metadata.PackageNotFoundError:
        return None


def table() -> dict[str, Known]:
    """Return the committed table: peft version → what it knows."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def installed() -> Known:
    """Return what the installed peft's ``LoraConfig`` knows; imports peft, hence torch."""
    from peft import LoraConfig

    hints = typing.get_type_hints(LoraConfig)
    known: Known = {}
    for field in dataclasses.fields(LoraConfig):
        if field.name == "runtime_config":
            continue  # peft drops it from a file
        names = _json_types(hints[field.name])
        default = None
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        known[field.name] = {"types": sorted(names), "default": default}
    return known


def json_type(value: Any) -> str:
    """Return the JSON type name of a parsed value."""
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else _JSON_NAMES[type(value)]


def fits(value: Any, types_: list[str]) -> bool:
    """Tell whether a parsed value has one of the types; an integer is a number too."""
    name = json_type(value)
    return name in types_ or (name == "integer" and "number" in types_) or value is None


def _json_types(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {name for part in typing.get_args(hint) for name in _json_types(part)}
    if origin is typing.Literal:
        return {_JSON_NAMES[type(value)] for value in typing.get_args(hint)}
    kind = origin or hint
    if kind in _JSON_NAMES:
        return {_JSON_NAMES[kind]}
    if kind in (list, tuple, set):
        return {"array"}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"string"}
    return {"object"}  # dictionaries and peft's nested configurations


def main() -> None:
    """Add the installed version to the committed table."""
    version = serving_version()
    if version is None:
        raise SystemExit("peft is not installed; next: pip install peft")
    content = {**(table() if TABLE.exists() else {}), version: installed()}
    text = json.dumps(dict(sorted(content.items())), indent=1, sort_keys=True) + "\n"
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
