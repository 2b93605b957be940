"""Parse the tensor names of a LoRA file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "base_model.model."
_LORA = re.compile(r"^(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB])(?:\.weight)?$")

BAD_PREFIXES = {
    "_orig_mod.": "torch.compile left it; save model._orig_mod, or strip it from every key",
    "module.": "DistributedDataParallel left it; save model.module, or strip it from every key",
    f"{PREFIX}{PREFIX}": "the model was wrapped by peft twice; strip one base_model.model. from every key",
}


@dataclass(frozen=True)
class LoraTensor:
    """One half of a LoRA pair: ``module`` is the path in the base, ``part`` A or B."""

    module: str
    part: str
    embedding: bool


def lora_tensor(key: str) -> LoraTensor | None:
    """Parse a key; None if it does not name an A or B matrix."""
    match = _LORA.match(key)
    if match is None:
        return None
    part = match["part"]
    return LoraTensor(match["module"].removeprefix(PREFIX), part[-1], "embedding" in part)


def lora_pairs(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return module → part → key, for every module that has an A or a B."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        if tensor := lora_tensor(key):
            parts[tensor.module][tensor.part] = key
    return dict(parts)


def find_bad_prefixes(keys: Iterable[str]) -> dict[str, str]:
    """Return known bad prefix → repair, of all keys; a missing ``base_model.model.`` counts as one."""
    repairs: dict[str, str] = {}
    for key in keys:
        rest = key.removeprefix(PREFIX).removeprefix(PREFIX)
        if key.startswith(f"{PREFIX}{PREFIX}"):
            repairs[f"{PREFIX}{PREFIX}"] = BAD_PREFIXES[f"{PREFIX}{PREFIX}"]
        elif "_orig_mod." in key:
            repairs["_orig_mod."] = BAD_PREFIXES["_orig_mod."]
        elif rest.startswith("module.") or key.startswith("module."):
            repairs["module."] = BAD_PREFIXES["module."]
        elif not key.startswith("base_model."):
            repairs["(no base_model.model.)"] = "put base_model.model. before every key"
    return repairs
