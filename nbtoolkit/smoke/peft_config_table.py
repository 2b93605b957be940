"""What each peft version knows in an ``adapter_config.json``: the committed table.

It is made by ``python -m nbtoolkit.smoke.model_level.peft_fields``.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("peft_keys.json")

Known = dict[str, dict[str, Any]]
"""Config key → ``types`` (JSON type names) and ``default``."""

JSON_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
}


def serving_version() -> str | None:
    """Return the version of the installed peft, without importing it; None where there is none."""
    try:
        return metadata.version("peft")
    except metadata.PackageNotFoundError:
        return None


def table() -> dict[str, Known]:
    """Return the committed table: peft version → what it knows."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def json_type(value: Any) -> str:
    """Return the JSON type name of a parsed value."""
    if isinstance(value, dict):
        return "object"
    return "array" if isinstance(value, list) else JSON_NAMES[type(value)]


def fits(value: Any, types: list[str]) -> bool:
    """Tell whether a parsed value has one of the types; an integer is a number too."""
    name = json_type(value)
    return name in types or (name == "integer" and "number" in types)
