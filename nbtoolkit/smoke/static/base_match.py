"""A4, static part: compare the adapter's tensor names and shapes with the base's headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbtoolkit.models.adapter import repair_command
from nbtoolkit.models.adapter_keys import EMBEDDINGS, PREFIX, WRAPPERS, lora_pairs, lora_tensor, repaired_key
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning
from nbtoolkit.smoke.static.base_name import compare_base_names

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

_TIED = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")

_CAUSES = {
    f"{PREFIX}{PREFIX}": "the model was wrapped by peft twice",
    "module.": "left by DistributedDataParallel",
    f"no {PREFIX}": "saved without peft's wrapper",
    "no model.": "trained on AutoModel",
    "no transformer.": "trained on AutoModel",
    "no .weight": "written by another tool",
    "a copy of a base weight": "save_pretrained leaves these tensors out",
    **{f"{name}.": f"left by {wrapper}" for name, wrapper in WRAPPERS.items()},
}
"""Defect of a name → how it came about; others are the adapter's name, or a component before peft's."""


@check("A4", "static", "base match")
def base_match(context: SmokeContext) -> CheckOutcome:
    """Compare every LoRA pair with its base weight; undecided if headers are not sufficient."""
    adapter, base = context.adapter, context.base
    if renamed := _defective_names(adapter.tensors):
        causes = [f"{defect} ({_cause(defect)})" for defect in renamed]
        return failure(
            f"names that peft does not load: {', '.join(causes)}",
            {"defects": renamed},
            f"write a copy with the right names: {repair_command(adapter.path)}",
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
    unknown = [key for key in others if not _is_saved_module(key, adapter_shapes[key], shapes)]
    missing = _missing_targets(adapter.config, [*pairs, *others])
    name = compare_base_names(adapter.base_name, adapter.config.get("revision"), base)
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
        "base_name": name.kind,
    }
    if wrong:
        first = next(iter(wrong.items()))
        return failure(f"{len(wrong)} shapes differ, {first[0]}: {first[1]}", evidence, remedy)
    if pairs and not matched and kind in UNRENAMED_TYPES:
        return failure(f"no key matches this base ({kind}), such as {unmatched[0]}", evidence, remedy)
    reason = _undecided_reason(unmatched, unknown, kind, quantized, bool(pairs))
    if name.kind == "other":  # the model level matches the keys in any case
        keys = f"{reason}; the model level decides it" if reason else "every key and shape matches"
        return warning(
            f"the adapter was trained on {adapter.base_name}, and the given base is {base.name}; {keys}",
            evidence,
            f"{remedy}; if it is the same model under another name, nothing",
        )
    if reason:
        return CheckOutcome("undecided", f"{reason}; the model level decides it", evidence)
    if missing:
        return warning(
            f"the configuration names {abbreviate(missing)}, but the file has no tensor of them",
            evidence,
            "save the adapter again, or remove the names from target_modules",
        )
    note = f"; note: {name.note}" if name.note else ""
    return passed(f"all {matched} modules match in name and shape{note}", evidence)


def _cause(defect: str) -> str:
    named = "the name of the adapter in peft" if defect.startswith(".") else "left by a wrapper around peft's"
    return _CAUSES.get(defect, named)


def _defective_names(keys: Iterable[str]) -> dict[str, int]:
    """Return defect → number of tensors whose name has it."""
    return dict(Counter(defect for key in keys for defect in repaired_key(key).defects))


def _is_saved_module(key: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor is a whole module's, as ``modules_to_save`` or a LoRA on embeddings stores it."""
    module = key.removeprefix(PREFIX).replace(".base_layer.", ".")
    stem, _, kind = module.rpartition(".")
    names = [module, module.partition(".")[2], *(f"{prefix}.{module}" for prefix in ("model", "transformer"))]
    if stem.rpartition(".")[2] in EMBEDDINGS:
        names += [name for name in shapes if name.endswith(_TIED)]
    return kind in ("weight", "bias") and any(shapes.get(name) == shape for name in names)


def _weight(module: str, shapes: Mapping[str, tuple[int, ...]], *, tied: bool) -> tuple[int, ...] | None:
    """Return the shape of a module's weight; the first component of its name may be missing in the file."""
    first, _, rest = module.partition(".")
    names = [module, rest, *(f"{prefix}.{module}" for prefix in ("model", "transformer"))]
    if tied and (first == "lm_head" or module.endswith(".lm_head")):
        names += [name.removesuffix(".weight") for name in shapes if name.endswith(_TIED)]
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
    saved = config.get("modules_to_save")
    names = [name for value in (targets, saved) if isinstance(value, list) for name in value]
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
        return f"not only lora_A and lora_B: {abbreviate(list(others), keep=1)}"
    return "the base is quantized, so its header has no plain shapes" if quantized else ""
