"""How peft holds each module that an adapter changes, and which adapters it cannot hold side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

LORA, SAVED, TOKENS = "lora", "saved", "tokens"
"""A LoRA layer; a whole copy (``modules_to_save``); copies of some rows (``trainable_token_indices``)."""
PARAMETERS = "parameters "
"""Followed by the names in ``target_parameters``: a wrapper for each of them, nested."""

_LORA_KEY = re.compile(r"(?:^|\.)(?P<module>[^.]+)(?:\.base_layer)*\.lora_(?:embedding_)?[AB](?:\.|$)")


def adapted_modules(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """Return module name → how peft holds it, from an adapter's configuration and its tensor names.

    A name is the last component of the module's path.
    """
    modules = {match["module"]: LORA for key in keys if (match := _LORA_KEY.search(key))}
    if parameters := _names(config.get("target_parameters")):
        kind = PARAMETERS + ", ".join(sorted(set(parameters)))
        modules |= {_last(name.rpartition(".")[0]): kind for name in parameters}
    modules |= {_last(name): SAVED for name in _names(config.get("modules_to_save"))}
    if tokens := config.get("trainable_token_indices"):
        modules |= {
            _last(name): TOKENS for name in (tokens if isinstance(tokens, dict) else ["embed_tokens"])
        }
    return dict(sorted(modules.items()))


def conflict(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Return why one model cannot hold two adapters at once, or an empty text.

    peft 0.21 wraps a module in one way for all adapters, wants the same ``target_parameters`` in all
    adapters that have any, and cannot load an adapter without trained tokens next to one with them.
    """
    for module in one.keys() & other.keys():
        if one[module] != other[module]:
            return f"{module} is held as {one[module]!r} by one and as {other[module]!r} by the other"
    kinds = [{kind for kind in held.values() if kind.startswith(PARAMETERS)} for held in (one, other)]
    if all(kinds) and kinds[0] != kinds[1]:
        return "they have different target_parameters"
    if (TOKENS in one.values()) != (TOKENS in other.values()):
        return "only one of them has trainable_token_indices"
    return ""


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _last(name: str) -> str:
    return name.rpartition(".")[2]
