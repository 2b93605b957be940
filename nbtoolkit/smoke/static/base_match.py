"""A4, static part: the adapter's keys and shapes against the base's header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nbtoolkit.smoke.check import CheckOutcome, check, shortened
from nbtoolkit.smoke.context import Subject
from nbtoolkit.smoke.static.lora_keys import bad_prefixes, lora_tensor, pairs

PLAIN = frozenset(
    [
        *("bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "gpt2"),
        *("gpt_bigcode", "gpt_neox", "gptj", "granite", "helium", "llama", "mistral", "mpt", "nemotron"),
        *("olmo", "olmo2", "opt", "persimmon", "phi", "phi3", "qwen2", "qwen3", "smollm3", "stablelm"),
        "starcoder2",
    ]
)
"""Model types whose checkpoint names are the module names; others are renamed while loading."""
TRANSPOSED = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Model types built of Conv1D, whose weights are stored input first."""

_WRONG_BASE = "give the base that it was trained on{base}"


@check("A4", "static", "base match")
def base_match(subject: Subject) -> CheckOutcome:
    """Compare every LoRA pair with the weight that it changes; what a header cannot tell stays undecided."""
    adapter, base = subject.adapter, subject.base
    if repairs := bad_prefixes(adapter.tensors):
        said = [f"{prefix} — {repair}" for prefix, repair in repairs.items()]
        return CheckOutcome(
            "fail",
            f"keys with a known bad prefix: {', '.join(repairs)}",
            {"repairs": repairs},
            "; ".join(said),
        )
    found = pairs(adapter.tensors)
    kind = str(base.config.get("model_type"))
    shapes = {name: tuple(info.shape) for name, info in base.tensors.items()}
    own = {key: tuple(info.shape) for key, info in adapter.tensors.items()}
    quantized = "quantization_config" in base.config
    matched, wrong, unmatched = 0, dict[str, str](), list[str]()
    for module, parts in found.items():
        weight = _weight(module, shapes, tied=bool(base.config.get("tie_word_embeddings", True)))
        if weight is None:
            unmatched.append(module)
            continue
        matched += 1
        if not quantized and (problem := _problem(parts, own, weight, kind)):
            wrong[module] = problem
    others = [key for key in adapter.tensors if lora_tensor(key) is None]
    lacking = _lacking(subject.config or {}, [*found, *others])
    trained_on = f", {adapter.base_name}" if adapter.base_name else ""
    remedy = _WRONG_BASE.format(base=trained_on)
    evidence: dict[str, Any] = {
        "modules": len(found),
        "matched": matched,
        "unmatched": unmatched[:50],
        "wrong_shapes": dict(list(wrong.items())[:50]),
        "named_but_lacking": lacking,
        "other_tensors": len(others),
        "model_type": kind,
        "trained_on": adapter.base_name,
    }
    if wrong:
        first = next(iter(wrong.items()))
        return CheckOutcome("fail", f"{len(wrong)} shapes differ, {first[0]}: {first[1]}", evidence, remedy)
    if found and not matched and kind in PLAIN:
        return CheckOutcome(
            "fail", f"no key matches this base ({kind}), such as {unmatched[0]}", evidence, remedy
        )
    if open_ := _open_reason(unmatched, others, kind, quantized, bool(found)):
        return CheckOutcome("undecided", f"{open_}; the model level settles it", evidence)
    if lacking:
        return CheckOutcome(
            "warn",
            f"the configuration names {shortened(lacking)}, of which the file holds nothing",
            evidence,
            "save the adapter again, or remove the names from target_modules",
        )
    return CheckOutcome("pass", f"all {matched} modules match in name and shape", evidence)


def _weight(module: str, shapes: Mapping[str, tuple[int, ...]], *, tied: bool) -> tuple[int, ...] | None:
    """Return the shape of a module's weight, with and without the model's own first name component."""
    first, _, rest = module.partition(".")
    names = [module, rest, *(f"{prefix}.{module}" for prefix in ("model", "transformer"))]
    if tied and (first == "lm_head" or module.endswith(".lm_head")):
        names += [name.removesuffix(".weight") for name in shapes if name.endswith(_EMBEDDINGS)]
    return next((shapes[f"{name}.weight"] for name in names if name and f"{name}.weight" in shapes), None)


_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")


def _problem(
    parts: Mapping[str, str], own: Mapping[str, tuple[int, ...]], weight: Sequence[int], kind: str
) -> str:
    """Return what is wrong with one module's pair, or nothing."""
    if set(parts) != {"A", "B"}:
        return f"only lora_{next(iter(parts))} is there"
    a, b = own[parts["A"]], own[parts["B"]]
    if len(weight) != 2 or len(a) != 2 or len(b) != 2:
        return ""  # convolutions and stacked experts: peft itself says at the model level
    if a[0] != b[1]:
        return f"rank {a[0]} in A but {b[1]} in B"
    order: Literal["in out", "out in"] = "out in"
    tensor = lora_tensor(parts["A"])
    if kind in TRANSPOSED or (tensor is not None and tensor.embedding):
        order = "in out"
    wanted = tuple(weight) if order == "out in" else (weight[1], weight[0])
    if (b[0], a[1]) == wanted:
        return ""
    if kind in TRANSPOSED and (b[0], a[1]) == tuple(weight):
        return ""  # lm_head is a plain Linear there
    return f"B·A is {b[0]}×{a[1]}, the base's weight {wanted[0]}×{wanted[1]}"


def _lacking(config: Mapping[str, Any], modules: Sequence[str]) -> list[str]:
    targets = config.get("target_modules")
    names = list(targets) if isinstance(targets, list) else []
    names += config.get("modules_to_save") or []
    return sorted(
        name for name in names if not any(f".{module}.".find(f".{name}.") >= 0 for module in modules)
    )


def _open_reason(
    unmatched: Sequence[str], others: Sequence[str], kind: str, quantized: bool, any_lora: bool
) -> str:
    if not any_lora:
        return "the file holds no plain lora_A and lora_B pairs"
    if unmatched:
        named = f"{len(unmatched)} modules are not in the base's header, such as {unmatched[0]}"
        return named if kind in PLAIN else f"{named}; {kind} is renamed while loading"
    if others:
        return f"{len(others)} tensors beside lora_A and lora_B, such as {others[0]}"
    return "the base is quantized, so its header holds no plain shapes" if quantized else ""
