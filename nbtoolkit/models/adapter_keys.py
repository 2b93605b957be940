"""Names of an adapter's tensors: the form that peft loads, and the repair of names in other known forms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "base_model.model."
WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning or DeepSpeed",
}
"""Component that a wrapper adds to every name below it → the wrapper."""

EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out")
"""Modules whose base weight peft stores too if they are LoRA targets."""

_INNER = (
    (re.compile(r"layers\.\d+\.(self_attn|mlp)\."), "model."),
    (re.compile(r"h\.\d+\."), "transformer."),
)
"""Names inside of the model without its head (``AutoModel``), and what they lack in a causal LM."""
_TASK_HEADS = {"score", "classifier", "classification_head", "qa_outputs", "v_head"}
_MATRICES = ("lora_A", "lora_B")
_PARTS = (
    *_MATRICES,
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
    "trainable_tokens_delta",
)
_LORA = re.compile(r"^(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB])(?:\.weight)?$")


@dataclass(frozen=True)
class RepairedKey:
    """The name by which peft loads a tensor, None for a copy of a base weight, and its name's defects."""

    name: str | None
    defects: tuple[str, ...]


def repaired_key(key: str) -> RepairedKey:
    """Return the name of a tensor as ``save_pretrained`` writes it, without wrappers and adapter names."""
    parts = key.split(".")
    defects = [f"{name}." for name in WRAPPERS if name in parts]
    rest, prefixes = ".".join(part for part in parts if part not in WRAPPERS), 0
    while True:
        if rest.startswith(PREFIX):
            prefixes += 1
            rest = rest.removeprefix(PREFIX)
        elif rest.startswith("module."):
            defects.append("module.")
            rest = rest.removeprefix("module.")
        elif not prefixes and (at := rest.find(f".{PREFIX}")) > 0:
            defects.append(rest[: at + 1])
            rest = rest[at + 1 :]
        else:
            break
    if prefixes > 1:
        defects.append(f"{PREFIX}{PREFIX}")
    elif not prefixes and rest.startswith("base_model."):
        return RepairedKey(".".join(parts), ())  # of another method than LoRA
    elif not prefixes:
        defects.append(f"no {PREFIX}")
    for pattern, missing in _INNER:
        if pattern.match(rest):
            rest = missing + rest
            defects.append(f"no {missing}")
    path = rest.split(".")
    if is_base_copy(path):
        return RepairedKey(None, (*defects, "a copy of a base weight"))
    named = _without_adapter_name(path)
    if named != path:
        defects.append(f".{_adapter_name(path)}" if len(named) < len(path) else "no .weight")
    return RepairedKey(PREFIX + ".".join(named), tuple(dict.fromkeys(defects)))


def is_base_copy(path: list[str]) -> bool:
    """Whether a tensor is a copy of a base weight that ``save_pretrained`` leaves out."""
    if "original_module" in path:
        return True
    at = path.index("base_layer") if "base_layer" in path else 0
    return at > 0 and path[at + 1 : at + 2] == ["weight"] and path[at - 1] not in EMBEDDINGS


def _without_adapter_name(path: list[str]) -> list[str]:
    """Return the components without the name under which peft held the adapter."""
    if "modules_to_save" in path[:-2]:
        at = path.index("modules_to_save")
        return path[:at] + path[at + 2 :]
    part = next((part for part in _PARTS if part in path), None)
    if part is None:
        return path
    at = path.index(part) + 1
    kind = [name for name in path[at:][-1:] if name in ("weight", "bias")]
    if part in _MATRICES:
        return [*path[:at], *(kind or ["weight"])]
    return [*path[:at], *(kind if part == "lora_magnitude_vector" and len(path) == at + 1 else [])]


def _adapter_name(path: list[str]) -> str:
    marker = next(part for part in ("modules_to_save", *_PARTS) if part in path)
    at = path.index(marker)
    return ".".join(path[at : at + 2] if marker == "modules_to_save" else path[at + 1 : at + 2])


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
        if tensor := lora_tensor(repaired_key(key).name or key):
            parts[tensor.module][tensor.part] = key
    return dict(parts)


def fits_causal_lm(keys: Iterable[str]) -> bool:
    """Whether tensors can belong to a causal LM: LoRA matrices, no task head and no encoder."""
    names = [repaired_key(key).name or key for key in keys]
    modules = [tensor.module.split(".") for name in names if (tensor := lora_tensor(name))]
    has_head = any(_TASK_HEADS & set(name.split(".")) for name in names)
    return bool(modules) and not has_head and not any("encoder" in module[:2] for module in modules)
