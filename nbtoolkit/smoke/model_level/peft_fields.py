"""Add the config keys of the installed peft to the table of check A3.

``python -m nbtoolkit.smoke.model_level.peft_fields`` writes ``peft_keys.json``.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from typing import Any

from nbtoolkit.installation import install_hint
from nbtoolkit.smoke.static.adapter_config import (
    JSON_NAMES,
    PEFT_KEYS,
    KnownKeys,
    peft_key_table,
    peft_version,
)


def installed_fields() -> KnownKeys:
    """Return the fields of the installed peft's ``LoraConfig``; imports peft, hence torch."""
    from peft import LoraConfig

    hints = typing.get_type_hints(LoraConfig)
    known: KnownKeys = {}
    for field in dataclasses.fields(LoraConfig):
        if field.name == "runtime_config":
            continue  # peft drops it from a file
        default = None
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        known[field.name] = {"types": sorted(_json_types(hints[field.name])), "default": default}
    return known


def _json_types(hint: Any) -> set[str]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {name for part in typing.get_args(hint) for name in _json_types(part)}
    if origin is typing.Literal:
        return {JSON_NAMES[type(value)] for value in typing.get_args(hint)}
    kind = origin or hint
    if kind in JSON_NAMES:
        return {JSON_NAMES[kind]}
    if kind in (list, tuple, set):
        return {"array"}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"string"}
    return {"object"}  # dictionaries and peft's nested configurations


def main() -> None:
    """Add the installed version to the committed table."""
    version = peft_version()
    if version is None:
        raise SystemExit(f"peft is not installed; next: {install_hint('model')}")
    content = {**(peft_key_table() if PEFT_KEYS.exists() else {}), version: installed_fields()}
    text = json.dumps(dict(sorted(content.items())), indent=1, sort_keys=True) + "\n"
    PEFT_KEYS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
