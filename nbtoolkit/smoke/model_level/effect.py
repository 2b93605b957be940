"""G2: does the adapter change what the model says, by more than batching does?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from nbtoolkit.smoke.check import CheckOutcome, check, shortened
from nbtoolkit.smoke.model_level.context import ModelSubject
from nbtoolkit.smoke.model_level.forward import divergence, logits_alone, logits_batched, padded
from nbtoolkit.smoke.model_level.prompts import batches
from nbtoolkit.smoke.model_level.weights import lora_layers

BATCH = 8


@check("G2", "model", "effect")
def effect(subject: ModelSubject) -> CheckOutcome:
    """Compare KL(base‖adapter) over all positions of all prompts with what a left-padded batch alone does."""
    settings = subject.settings
    found, noise = measure(subject.model, subject.prompt_ids, subject.tell)
    silent = silent_modules(subject.model, subject.adapter_name, subject.prompt_ids[:BATCH])
    evidence: dict[str, Any] = {
        "kl_nats": found,
        "noise_nats": noise,
        "prompts": len(subject.prompt_ids),
        "positions": sum(len(ids) for ids in subject.prompt_ids),
        "dtype": subject.dtype,
        "modules_without_output": silent[:50],
    }
    if not math.isfinite(found) or not math.isfinite(noise):
        return CheckOutcome(
            "fail",
            f"the model computes NaN or infinities in {subject.dtype}",
            evidence,
            "serve in bfloat16 or float32; where it already does, the adapter is too strong or damaged",
        )
    times = f"{found / noise:.3g} × the noise" if noise else "no noise at all"
    summary = f"KL(base‖adapter) is {found:.3g} nats, {times} ({noise:.2g})"
    if found <= settings.effect_fail * noise:
        return _no_effect(subject, summary, evidence)
    if found <= settings.effect_warn * noise:
        return CheckOutcome(
            "warn",
            f"{summary}: hardly more than batching alone",
            evidence,
            "train longer or with a larger alpha, or give prompts of your task (prompts=...)",
        )
    if silent:
        return CheckOutcome(
            "warn",
            f"{summary}; {len(silent)} modules change nothing: {shortened(silent, 3)}",
            evidence,
            "see whether these modules were meant to be trained, or serve in float32",
        )
    return CheckOutcome("pass", summary, evidence)


def measure(model: Any, prompts: list[list[int]], tell: Callable[..., None]) -> tuple[float, float]:
    """Return mean KL(base‖adapter) and mean KL(base alone‖base in a batch of 8), in nats per position."""
    change = noise = 0.0
    positions = 0
    for group in batches(prompts, BATCH):
        rows = [*group, *prompts[: BATCH - len(group)]]
        batched = logits_batched(model, rows, adapter=False)
        for ids, in_batch in zip(group, batched, strict=False):
            tell("measuring the adapter's effect", positions, sum(len(one) for one in prompts))
            base = logits_alone(model, ids, adapter=False)
            change += float(divergence(base, logits_alone(model, ids, adapter=True)).sum())
            noise += float(divergence(base, in_batch).clamp(min=0).sum())
            positions += len(ids)
    return (0.0 if change < 0 else change) / positions, noise / positions


def silent_modules(model: Any, name: str, prompts: list[list[int]]) -> list[str]:
    """Return the modules whose output is bit for bit the base's on every prompt."""
    from peft.tuners.lora import Embedding, Linear

    silent: set[str] = set()
    handles: list[Any] = []

    def watch(path: str) -> Callable[..., None]:
        def compare(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if torch.equal(module.get_base_layer()(*inputs), output):
                silent.add(path)

        return compare

    for path, module in lora_layers(model, name):
        if isinstance(module, Linear | Embedding):
            handles.append(module.register_forward_hook(watch(path)))
    try:
        ids, mask, positions = padded(prompts, model.get_input_embeddings().weight.device)
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return sorted(silent)


def _no_effect(subject: ModelSubject, summary: str, evidence: dict[str, Any]) -> CheckOutcome:
    """Tell an adapter that changes nothing from one whose change the serving precision swallows."""
    if subject.dtype != "float32" and subject.settings.quantization == "none":
        subject.tell("looking for the effect in float32")
        del subject.model
        try:
            found, noise = measure(subject.load("float32"), subject.prompt_ids, subject.tell)
        except torch.OutOfMemoryError:
            evidence["float32"] = "not tried: out of memory"
        else:
            evidence["float32"] = {"kl_nats": found, "noise_nats": noise}
            if found > subject.settings.effect_fail * noise:
                return CheckOutcome(
                    "fail",
                    f"{summary}: below serving precision; in float32 it is {found:.3g} nats",
                    evidence,
                    "serve with dtype='float32', or train longer or with a larger alpha",
                )
    return CheckOutcome(
        "fail",
        f"{summary}: the adapter changes nothing",
        evidence,
        "check that the trained weights were saved, and that it is the right adapter for this base",
    )
