"""G6: time to first token, tokens/s and peak memory of one answer, against the user's own budget."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from nbtoolkit.smoke.check import CheckOutcome, check, failure, passed, warning
from nbtoolkit.smoke.model_level.context import Device, ModelContext
from nbtoolkit.smoke.settings import SmokeSettings

TOKENS = 12
PROMPTS = 2
_GIB = 1 << 30
_NEARLY_FULL = 0.9


@dataclass(frozen=True)
class Usage:
    """What one answer of the adapter takes; memory is the peak of the process, or of the GPU, in bytes."""

    first_token: float
    tokens_per_second: float
    base_tokens_per_second: float
    peak: int
    total: int


@check("G6", "model", "budget")
def budget(context: ModelContext) -> CheckOutcome:
    """Measure the adapter's answers to the first prompts, each alone, and compare them with the budget."""
    return compare_with_budget(measure_usage(context), context.settings, context.device)


def compare_with_budget(usage: Usage, settings: SmokeSettings, device: Device) -> CheckOutcome:
    """Fail if the usage is over the budget, and warn if the memory is nearly full."""
    evidence: dict[str, Any] = {
        "device": device.name,
        "seconds_to_first_token": usage.first_token,
        "tokens_per_second": usage.tokens_per_second,
        "tokens_per_second_of": {"adapter": usage.tokens_per_second, "base": usage.base_tokens_per_second},
        "peak_gib": usage.peak / _GIB,
        "memory_gib": usage.total / _GIB,
    }
    summary = (
        f"first token after {usage.first_token:.2g} s, {usage.tokens_per_second:.3g} tokens/s, "
        f"peak memory {usage.peak / _GIB:.3g} of {usage.total / _GIB:.3g} GiB, on {device.name}"
    )
    over: list[str] = []
    if settings.max_ttft is not None and usage.first_token > settings.max_ttft:
        over.append(f"the first token takes {usage.first_token:.2g} s, the budget is {settings.max_ttft:g} s")
    slowest = settings.min_tokens_per_second
    if slowest is not None and usage.tokens_per_second < slowest:
        over.append(f"it writes {usage.tokens_per_second:.3g} tokens/s, the budget is {slowest:g}")
    if settings.max_memory is not None and usage.peak > settings.max_memory * _GIB:
        over.append(
            f"the peak memory is {usage.peak / _GIB:.3g} GiB, the budget is {settings.max_memory:g} GiB"
        )
    if over:
        return failure(
            f"over the budget: {'; '.join(over)} (on {device.name})",
            evidence,
            "take a faster GPU, a smaller base or quantization='nf4', or raise the budget",
        )
    if usage.peak > _NEARLY_FULL * usage.total:
        return warning(
            f"{summary}: over 90 % of the memory",
            evidence,
            "longer prompts or more requests may run out of memory: take a device with more memory, or nf4",
        )
    return passed(summary, evidence)


def measure_usage(context: ModelContext) -> Usage:
    """Time answers of 12 tokens to the first prompts, alone, by base and adapter; a stop token is ignored."""
    prompts = context.prompt_ids[:PROMPTS]
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for index, ids in enumerate(prompts):
        context.report("measuring speed and memory", index, len(prompts))
        for adapter, seen in times.items():
            seen.append(_time_answer(context.model, ids, adapter))
    return Usage(
        first_token=median(first for first, _ in times[True]),
        tokens_per_second=median(speed for _, speed in times[True]),
        base_tokens_per_second=median(speed for _, speed in times[False]),
        peak=peak_memory(context.device.kind),
        total=device_memory(context.device.kind),
    )


def _time_answer(model: Any, prompt: Sequence[int], adapter: bool) -> tuple[float, float]:
    """Return the seconds to the first token, and the tokens per second after it."""
    ids = torch.tensor([list(prompt)], device=model.get_input_embeddings().weight.device)
    cache: Any = None
    begin = first = time.perf_counter()
    with torch.inference_mode(), nullcontext() if adapter else model.disable_adapter():
        for step in range(TOKENS):
            output = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            ids = output.logits[:, -1:].argmax(-1)
            ids.tolist()  # waits for the GPU
            if step == 0:
                first = time.perf_counter()
    return first - begin, (TOKENS - 1) / (time.perf_counter() - first)


def peak_memory(kind: str, proc: Path = Path("/proc")) -> int:
    """Return the peak memory in bytes: reserved on the GPU, or of this process."""
    if kind == "cuda":
        return torch.cuda.max_memory_reserved()
    status = proc / "self/status"
    if status.is_file():  # after an exec, getrusage still has the peak of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_memory(kind: str, cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the device's memory in bytes; on the CPU the limit of the container counts."""
    if kind == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    total = psutil.virtual_memory().total
    for limit in (cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes"):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            return min(total, int(text))
    return total
