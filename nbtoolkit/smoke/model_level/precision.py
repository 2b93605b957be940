"""G8: what the adapter changes on the base as it was trained, and on the base as it will be served."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nbtoolkit.golden.scoring import score_all
from nbtoolkit.smoke.check import CheckOutcome, check, failure, passed, warning
from nbtoolkit.smoke.model_level.context import ModelContext
from nbtoolkit.smoke.model_level.forward import logits_alone
from nbtoolkit.smoke.model_level.golden import adapter_answers
from nbtoolkit.smoke.model_level.nf4 import round_linear_layers
from nbtoolkit.smoke.settings import SmokeSettings

_FOUR_BIT = re.compile(r"(?<![a-z0-9])(bnb-?4bit|4-?bits?|nf4|qlora)(?![a-z0-9])", re.IGNORECASE)
"""In the name of the base that an adapter was trained on."""
PROMPTS = 2
POSITIONS = 16
"""Positions at the end of each prompt; more of them would need much memory with a large vocabulary."""


class Shift(NamedTuple):
    """What the adapter changes: log-probabilities of the base and of the adapter, [positions, vocabulary]."""

    base: Tensor
    adapter: Tensor

    @property
    def kl(self) -> float:
        """Mean KL(base‖adapter), in nats."""
        return max(0.0, float((self.base.exp() * (self.base - self.adapter)).sum(-1).mean()))


class ShiftComparison(NamedTuple):
    """KL(base‖adapter) in another precision and as served; sizes of that shift and of the difference."""

    trained: float
    served: float
    effect: float
    lost: float


@check("G8", "model", "precision")
def precision(context: ModelContext) -> CheckOutcome:
    """Compare the adapter's shift of the output as served with float32, and with NF4 if trained on it.

    It costs a few forward passes, and memory for the weights in float32. The golden prompts are answered on
    the NF4 base too.
    """
    trained, served = training_precision(context), serving_precision(context)
    evidence: dict[str, Any] = {"trained": trained, "served": served}
    wanted = {"float32": context.dtype != "float32", "nf4": trained == "nf4"}
    if served == context.dtype and any(wanted.values()):
        context.report(f"measuring the adapter in {' and '.join(one for one in wanted if wanted[one])}")
        try:
            evidence |= _compare(context, wanted)
        except torch.OutOfMemoryError as error:
            evidence["not_measured"] = str(error).splitlines()[0]
        finally:
            del context.model  # its weights were changed; the next use loads them again
    return judge_precision(evidence, context.settings)


def _compare(context: ModelContext, wanted: Mapping[str, bool]) -> dict[str, Any]:
    """Return what the shift as served and the shift in each wanted precision differ by."""
    as_served, found = measure_shift(context), dict[str, Any]()
    context.model.float()
    if wanted["float32"]:
        found["float32"] = compare_shifts(measure_shift(context), as_served)._asdict()
    if wanted["nf4"]:
        round_linear_layers(context.model)
        found["nf4"] = compare_shifts(measure_shift(context), as_served)._asdict()
        if golden := context.task.golden:
            scores = score_all(golden, adapter_answers(context, "adapter on the nf4 base"))
            musts = [one.passed for prompt, one in zip(golden, scores, strict=True) if prompt.must]
            found["nf4"] |= {"golden_musts": len(musts), "golden_musts_passed": sum(musts)}
    return found


def judge_precision(evidence: dict[str, Any], settings: SmokeSettings) -> CheckOutcome:
    """Return the outcome; ``evidence`` holds a comparison under the name of each precision."""
    trained, served = evidence["trained"], evidence["served"]
    about = f"trained in {trained}, served in {served}"
    if "not_measured" in evidence:
        return warning(
            f"{about}: not compared, the memory does not suffice",
            evidence,
            "run the smoke test on a machine with memory for the weights in float32",
        )
    for reference in ("float32", "nf4"):
        if (found := evidence.get(reference)) and not found["effect"] and not found["served"]:
            return failure(
                f"the adapter changes nothing, neither in {reference} nor in {served}",
                evidence,
                "check that the trained weights were saved, and that it is the right adapter for this base",
            )
    if exact := evidence.get("float32"):
        summary = (
            f"in float32 the adapter shifts the output by {exact['trained']:.3g} nats, and {served} changes "
            f"that shift by {exact['lost']:.3g}"
        )
        if exact["effect"] <= settings.effect_fail * exact["lost"]:
            return failure(
                f"below serving precision: {summary}",
                evidence,
                "serve with dtype='float32', or train longer or with a larger alpha",
            )
        if exact["effect"] <= settings.effect_warn * exact["lost"]:
            return warning(
                f"hardly above serving precision: {summary}",
                evidence,
                "train longer or with a larger alpha, or serve with dtype='float32'",
            )
        about = f"{about}: {summary}"
    if four_bit := evidence.get("nf4"):
        summary = (
            f"KL(base‖adapter) is {four_bit['trained']:.3g} nats on the nf4 base that it was trained on and "
            f"{four_bit['served']:.3g} as served; the two shifts differ by {four_bit['lost']:.3g}"
        )
        if "golden_musts" in four_bit:
            musts = f"{four_bit['golden_musts_passed']} of {four_bit['golden_musts']}"
            summary += f"; on the nf4 base {musts} golden prompts pass (as served: G5)"
        if four_bit["effect"] <= four_bit["lost"]:
            return warning(
                f"the adapter acts differently as served: {summary}",
                evidence,
                "compare the golden prompts (G5), and serve with quantization='nf4' if the answers are worse",
            )
        about = f"{about}; {summary}"
    return passed(about, evidence)


def training_precision(context: ModelContext) -> str:
    """Return "nf4" or the dtype of the training: as set, as the base's name says, or the base's own."""
    if context.settings.trained_in != "auto":
        return context.settings.trained_in
    if _FOUR_BIT.search(str(context.adapter_config.get("base_model_name_or_path") or "")):
        return "nf4"
    saved = getattr(context.base_config, "dtype", None)
    return str(saved).removeprefix("torch.") if saved else "float32"


def serving_precision(context: ModelContext) -> str:
    """Return "nf4", the method by which the base is quantized, or the dtype of the served weights."""
    if context.settings.quantization == "nf4":
        return "nf4"
    saved: Any = getattr(context.base_config, "quantization_config", None)
    if saved is None:
        return context.dtype
    get = saved.get if isinstance(saved, Mapping) else partial(getattr, saved)
    return "nf4" if get("load_in_4bit", False) else str(get("quant_method", "quantized"))


def measure_shift(context: ModelContext) -> Shift:
    """Return the log-probabilities at the ends of the first prompts, without and with the adapter."""
    model = context.model

    def measured(adapter: bool) -> Iterator[Tensor]:
        for ids in context.prompt_ids[:PROMPTS]:
            with nullcontext() if adapter else model.disable_adapter():
                logits = logits_alone(model, ids)
            yield torch.log_softmax(logits[-POSITIONS:].float(), dim=-1).cpu()

    return Shift(torch.cat(list(measured(False))), torch.cat(list(measured(True))))


def compare_shifts(trained: Shift, served: Shift) -> ShiftComparison:
    """Compare two shifts where the probability is; the sizes are second-order approximations of KL."""
    weight = (trained.base.exp() + trained.adapter.exp()) / 2

    def size(shift: Tensor) -> float:
        centred = shift - (weight * shift).sum(-1, keepdim=True)
        return 0.5 * float((weight * centred**2).sum(-1).mean())

    change, change_served = trained.adapter - trained.base, served.adapter - served.base
    return ShiftComparison(trained.kl, served.kl, size(change), size(change_served - change))
