"""What the installed peft knows in an ``adapter_config.json``.

``python -m nbtoolkit.smoke.model_level.peft_fields`` adds its version to the committed table.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import Enum
from typing import Any

from nbtoolkit.installation import install_hint
from nbtoolkit.smoke.peft_config_table import JSON_NAMES, TABLE, Known, serving_version, table


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
    version = serving_version()
    if version is None:
        raise SystemExit(f"peft is not installed; next: {install_hint('model')}")
    content = {**(table() if TABLE.exists() else {}), version: installed()}
    text = json.dumps(dict(sorted(content.items())), indent=1, sort_keys=True) + "\n"
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
