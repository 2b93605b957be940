"""G2: the adapter changes the model's output by more than batching does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from nbtoolkit.smoke.check import CheckOutcome, abbreviate, check, failure, passed, warning
from nbtoolkit.smoke.model_level.context import ModelContext, on_clean_base
from nbtoolkit.smoke.model_level.forward import (
    Distributions,
    batches,
    distributions,
    divergence,
    logits_alone,
    logits_batched,
    padded,
)
from nbtoolkit.smoke.model_level.load import lora_layers

BATCH = 8


class BaseAnswers(NamedTuple):
    """The base's distributions on each prompt, and mean KL(base alone‖base in a batch of 8) per position."""

    distributions: list[Distributions]
    noise: float


@on_clean_base
def base_on_prompts(context: ModelContext) -> BaseAnswers:
    """Measure the base on all prompts."""
    return measure_base(context.base, context.prompt_ids, context.report)


@check("G2", "model", "effect")
def effect(context: ModelContext) -> CheckOutcome:
    """Compare KL(base‖adapter) over all positions of all prompts with the noise of left-padded batches."""
    settings = context.settings
    model, (reference, noise) = context.model, base_on_prompts(context)
    changes = measure_change(model, context.prompt_ids, reference, context.report)
    positions = list(map(len, context.prompt_ids))
    change = sum(changes) / sum(positions)
    silent = modules_without_output(context.model, context.adapter_name, context.prompt_ids[:BATCH])
    evidence: dict[str, Any] = {
        "kl_nats": change,
        "noise_nats": noise,
        "kl_per_prompt": {
            prompt: value / length
            for prompt, value, length in zip(context.prompts, changes, positions, strict=True)
        },
        "prompts": len(context.prompt_ids),
        "positions": sum(positions),
        "dtype": context.dtype,
        "modules_without_output": silent[:50],
    }
    if not math.isfinite(change) or not math.isfinite(noise):
        return failure(
            f"the model computes NaN or infinities in {context.dtype}",
            evidence,
            "serve in bfloat16 or float32; if it already does, the adapter is too strong or damaged",
        )
    times = f"{change / noise:.3g} × the noise" if noise else "no noise at all"
    summary = f"KL(base‖adapter) is {change:.3g} nats, {times} ({noise:.2g})"
    if change <= settings.effect_fail * noise:
        return _fail(context, summary, evidence)
    if change <= settings.effect_warn * noise:
        return warning(
            f"{summary}: hardly more than batching alone",
            evidence,
            "train longer or with a larger alpha, or give prompts of your task (prompts=...)",
        )
    if silent:
        return warning(
            f"{summary}; {len(silent)} modules change nothing: {abbreviate(silent, 3)}",
            evidence,
            "check whether these modules should have been trained, or serve in float32",
        )
    return passed(summary, evidence)


def measure_base(model: Any, prompts: list[list[int]], report: Callable[..., None]) -> BaseAnswers:
    """Measure a base, alone and in left-padded batches, on prompts of token ids."""
    alone = list[Distributions]()
    noise = 0.0
    for group in batches(prompts, BATCH):
        report("measuring the base", len(alone), len(prompts))
        rows = [*group, *prompts[: BATCH - len(group)]]
        for ids, batched in zip(group, logits_batched(model, rows), strict=False):
            alone.append(distributions(logits_alone(model, ids)))
            noise += float(divergence(alone[-1], batched).clamp(min=0).sum())
    return BaseAnswers(alone, noise / sum(map(len, prompts)))


def measure_change(
    model: Any, prompts: list[list[int]], reference: list[Distributions], report: Callable[..., None]
) -> list[float]:
    """Return KL(reference‖model) in nats of each prompt, the sum over its positions."""
    changes = list[float]()
    for index, (ids, base) in enumerate(zip(prompts, reference, strict=True)):
        report("measuring the adapter's effect", index, len(prompts))
        change = float(divergence(base, logits_alone(model, ids)).sum())
        changes.append(0.0 if change < 0 else change)
    return changes


def modules_without_output(model: Any, name: str, prompts: list[list[int]]) -> list[str]:
    """Return the modules whose output equals the base's bit for bit on every prompt."""
    from peft.tuners.lora import Embedding, Linear

    silent: set[str] = set()
    handles: list[Any] = []

    def compare_to_base(path: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if torch.equal(module.get_base_layer()(*inputs), output):
                silent.add(path)

        return hook

    for path, module in lora_layers(model, name):
        if isinstance(module, Linear | Embedding):
            handles.append(module.register_forward_hook(compare_to_base(path)))
    try:
        ids, mask, positions = padded(prompts, model.get_input_embeddings().weight.device)
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(silent)


def _fail(context: ModelContext, summary: str, evidence: dict[str, Any]) -> CheckOutcome:
    """Distinguish an adapter without effect from one whose effect is below the serving precision."""
    if context.dtype != "float32" and context.settings.quantization == "none":
        context.report("measuring the effect in float32")
        del context.model
        try:
            base = context.load_base("float32")
            reference, noise = measure_base(base, context.prompt_ids, context.report)
            changes = measure_change(context.attach(base), context.prompt_ids, reference, context.report)
            change = sum(changes) / sum(map(len, context.prompt_ids))
        except torch.OutOfMemoryError:
            evidence["float32"] = "not measured: out of memory"
        else:
            evidence["float32"] = {"kl_nats": change, "noise_nats": noise}
            if change > context.settings.effect_fail * noise:
                return failure(
                    f"{summary}: below serving precision; in float32 it is {change:.3g} nats",
                    evidence,
                    "serve with dtype='float32', or train longer or with a larger alpha",
                )
    return failure(
        f"{summary}: the adapter changes nothing",
        evidence,
        "check that the trained weights were saved, and that it is the right adapter for this base",
    )
