"""A4, static part: parse LoRA tensor names, and compare keys and shapes with the base's headers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning

UNRENAMED_TYPES = frozenset(
    [
        *("bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2"),
        *("gpt_bigcode", "gpt_neox", "gptj", "granite", "helium", "llama", "mistral", "mpt", "nemotron"),
        *("olmo", "olmo2", "opt", "persimmon", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
        "starcoder2",
    ]
)
"""Model types whose checkpoint names are the module names; transformers renames those of others."""
CONV1D_TYPES = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Model types made of Conv1D layers, whose weights are stored as [in, out]."""

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")

PREFIX = "base_model.model."
_LORA = re.compile(r"^(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB])(?:\.weight)?$")

_BAD_PREFIXES = {
    f"{PREFIX}{PREFIX}": "the model was wrapped by peft twice; strip one base_model.model. from every key",
    "_orig_mod.": "torch.compile left it; save model._orig_mod, or strip it from every key",
    "module.": "DistributedDataParallel left it; save model.module, or strip it from every key",
    "(no base_model.model.)": "put base_model.model. before every key",
}


@check("A4", "static", "base match")
def base_match(context: SmokeContext) -> CheckOutcome:
    """Compare every LoRA pair with its base weight; undecided if headers are not sufficient."""
    adapter, base = context.adapter, context.base
    prefixes = filter(None, map(_bad_prefix, adapter.tensors))
    if repairs := {prefix: _BAD_PREFIXES[prefix] for prefix in prefixes}:
        return failure(
            f"keys with a known bad prefix: {', '.join(repairs)}",
            {"repairs": repairs},
            "; ".join(f"{prefix} — {repair}" for prefix, repair in repairs.items()),
        )
    pairs = lora_pairs(adapter.tensors)
    kind = str(base.config.get("model_type"))
    shapes = {name: tuple(info.shape) for name, info in base.tensors.items()}
    adapter_shapes = {key: tuple(info.shape) for key, info in adapter.tensors.items()}
    quantized = "quantization_config" in base.config
    matched, wrong, unmatched = 0, dict[str, str](), list[str]()
    for module, parts in pairs.items():
        weight = _weight(module, shapes, tied=bool(base.config.get("tie_word_embeddings", True)))
        if weight is None:
            unmatched.append(module)
            continue
        matched += 1
        if not quantized and (problem := _problem(parts, adapter_shapes, weight, kind)):
            wrong[module] = problem
    others = [key for key in adapter.tensors if lora_tensor(key) is None]
    missing = _missing_targets(context.config or {}, [*pairs, *others])
    trained_on = f", {adapter.base_name}" if adapter.base_name else ""
    remedy = f"give the base that it was trained on{trained_on}"
    evidence: dict[str, Any] = {
        "modules": len(pairs),
        "matched": matched,
        "unmatched": unmatched[:50],
        "wrong_shapes": dict(list(wrong.items())[:50]),
        "named_but_lacking": missing,
        "other_tensors": len(others),
        "model_type": kind,
        "trained_on": adapter.base_name,
    }
    if wrong:
        first = next(iter(wrong.items()))
        return failure(f"{len(wrong)} shapes differ, {first[0]}: {first[1]}", evidence, remedy)
    if pairs and not matched and kind in UNRENAMED_TYPES:
        return failure(f"no key matches this base ({kind}), such as {unmatched[0]}", evidence, remedy)
    if reason := _undecided_reason(unmatched, others, kind, quantized, bool(pairs)):
        return CheckOutcome("undecided", f"{reason}; the model level decides it", evidence)
    if missing:
        return warning(
            f"the configuration names {abbreviate(missing)}, but the file has no tensor of them",
            evidence,
            "save the adapter again, or remove the names from target_modules",
        )
    return passed(f"all {matched} modules match in name and shape", evidence)


def _weight(module: str, shapes: Mapping[str, tuple[int, ...]], *, tied: bool) -> tuple[int, ...] | None:
    """Return the shape of a module's weight; the first component of its name may be missing in the file."""
    first, _, rest = module.partition(".")
    names = [module, rest, *(f"{prefix}.{module}" for prefix in ("model", "transformer"))]
    if tied and (first == "lm_head" or module.endswith(".lm_head")):
        names += [name.removesuffix(".weight") for name in shapes if name.endswith(_EMBEDDINGS)]
    return next((shapes[f"{name}.weight"] for name in names if name and f"{name}.weight" in shapes), None)


def _problem(
    parts: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], weight: Sequence[int], kind: str
) -> str:
    """Return the problem of one module's pair, or an empty text."""
    if set(parts) != {"A", "B"}:
        return f"only lora_{next(iter(parts))} is present"
    a, b = shapes[parts["A"]], shapes[parts["B"]]
    if len(weight) != 2 or len(a) != 2 or len(b) != 2:
        return ""  # convolutions and stacked experts: peft checks them at the model level
    if a[0] != b[1]:
        return f"rank {a[0]} in A but {b[1]} in B"
    tensor = lora_tensor(parts["A"])
    transposed = kind in CONV1D_TYPES or (tensor is not None and tensor.embedding)
    expected = (weight[1], weight[0]) if transposed else tuple(weight)
    if (b[0], a[1]) == expected:
        return ""
    if kind in CONV1D_TYPES and (b[0], a[1]) == tuple(weight):
        return ""  # lm_head is a plain Linear in these models
    return f"B·A is {b[0]}×{a[1]}, the base's weight {expected[0]}×{expected[1]}"


def _missing_targets(config: Mapping[str, Any], modules: Sequence[str]) -> list[str]:
    targets = config.get("target_modules")
    names = list(targets) if isinstance(targets, list) else []
    names += config.get("modules_to_save") or []
    return sorted(
        name for name in names if not any(f".{module}.".find(f".{name}.") >= 0 for module in modules)
    )


def _undecided_reason(
    unmatched: Sequence[str], others: Sequence[str], kind: str, quantized: bool, any_lora: bool
) -> str:
    if not any_lora:
        return "the file has no plain lora_A and lora_B pairs"
    if unmatched:
        reason = f"{len(unmatched)} modules are not in the base's header, such as {unmatched[0]}"
        return reason if kind in UNRENAMED_TYPES else f"{reason}; {kind} is renamed while loading"
    if others:
        return f"{len(others)} tensors other than lora_A and lora_B, such as {others[0]}"
    return "the base is quantized, so its header has no plain shapes" if quantized else ""


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


def _bad_prefix(key: str) -> str:
    """Return the known bad prefix of a key, or an empty text; no ``base_model.model.`` counts as one."""
    if key.startswith(f"{PREFIX}{PREFIX}"):
        return f"{PREFIX}{PREFIX}"
    if "_orig_mod." in key:
        return "_orig_mod."
    if key.removeprefix(PREFIX).startswith("module."):
        return "module."
    return "" if key.startswith("base_model.") else "(no base_model.model.)"
