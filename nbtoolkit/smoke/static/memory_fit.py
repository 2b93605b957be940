"""A8: weights, adapter and KV cache fit into the memory of the target's GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.capacity.memory_fit import GIB, Quantization, estimate_fit
from nbtoolkit.models.base_model import Base
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, check, failure, passed, warning

_RESERVE = 1.1
_FAIL, _WARN = 0.9, 0.8
"""Shares of the memory above which the check fails and warns."""
_MIN_LENGTH = 1_024
_DEFAULT_LENGTH = 4_096


@dataclass(frozen=True)
class Serving:
    """A way to serve an adapter: the settings that decide how much memory it takes, which is ``share``."""

    base: Base
    adapter_bytes: int
    gpu: str
    dtype: str
    quantization: Quantization
    length: int
    concurrency: int

    @property
    def parts(self) -> dict[str, float]:
        """GiB by what they hold; ``available`` is the memory of the GPU."""
        fit = estimate_fit(self.base, GPU_PROFILES[self.gpu], self.quantization, self.dtype)
        cache = fit.token_bytes * self.length * self.concurrency
        sizes = {
            "weights": fit.weights,
            "adapter": self.adapter_bytes,
            "cache": cache,
            "required": _RESERVE * (fit.weights + self.adapter_bytes + cache),
            "available": fit.available,
        }
        return {name: size / GIB for name, size in sizes.items()}

    @property
    def share(self) -> float:
        """The part of the memory that is required, with a reserve of 10 %."""
        parts = self.parts
        return parts["required"] / parts["available"]


@check("A8", "static", "fit")
def memory_fit(context: SmokeContext) -> CheckOutcome:
    """Compare weights + adapter + KV cache + 10 % with the memory of the chosen GPU profile."""
    settings, base = context.settings, context.base
    if settings.gpu is None:
        return CheckOutcome(
            "skipped", "skipped: no gpu is chosen, so the memory is not known", remedy=_CHOOSE
        )
    profile = GPU_PROFILES[settings.gpu]
    if settings.dtype == "bfloat16" and profile.has_gpu and not profile.has_bfloat16:
        return failure(
            f"{profile.label} has no bfloat16",
            {"gpu": settings.gpu, "dtype": settings.dtype},
            "choose dtype float16 or auto, or the GPU A100",
            {"dtype": "float16"},
        )
    limit = base.max_model_len or _DEFAULT_LENGTH
    full = Serving(
        base,
        context.adapter.size,
        settings.gpu,
        settings.dtype,
        settings.quantization,
        settings.max_model_len or limit,
        settings.max_concurrency,
    )
    # The engine fills its cache as answers grow: only a length that was chosen is promised to all of them.
    promised = full if settings.max_model_len else replace(full, concurrency=1)
    verdict = "fail" if promised.share > _FAIL else "warn" if full.share > _WARN else "pass"
    shown = promised if verdict == "fail" else full
    parts = {name: round(size, 3) for name, size in shown.parts.items()}
    facts = {"length": shown.length, "concurrency": shown.concurrency, "share": round(shown.share, 4)}
    evidence: dict[str, Any] = {"gpu": settings.gpu, **parts, **facts}
    summary = (
        f"{parts['required']:.1f} of {parts['available']:.1f} GiB on {profile.label}: weights "
        f"{parts['weights']:.1f}, adapter {parts['adapter']:.2f}, {shown.concurrency} answers of "
        f"{shown.length:,} tokens {parts['cache']:.1f}, and 10 %"
    )
    if verdict == "pass":
        return passed(summary, evidence)
    changes = next((one for one in _alternatives(full, settings.engine) if _fits(full, one)), None)
    remedy = (
        "choose " + ", ".join(f"{name} {value}" for name, value in changes.items())
        if changes
        else "choose a smaller base model: one GPU serves a replica here"
    )
    if verdict == "fail":
        return failure(f"it does not fit: {summary}", evidence, remedy, changes or {})
    return warning(f"above {_WARN:.0%} of the memory: {summary}", evidence, remedy, changes or {})


_CHOOSE = "name the GPU profile that will serve, such as gpu='A100'"


def _alternatives(full: Serving, engine: str) -> Iterator[dict[str, Any]]:
    """Yield changes of settings from the cheapest on: shorter or fewer answers, nf4, another GPU, both."""
    cheap = list(_smaller_caches(full))
    hardware: list[dict[str, Any]] = []
    has_gpu = GPU_PROFILES[full.gpu].has_gpu
    if has_gpu and full.quantization == "none" and engine == "transformers":
        hardware.append({"quantization": "nf4"})
    if "A100" not in full.gpu:
        hardware.append({"gpu": "A100"})
        if full.quantization == "none" and engine == "transformers":
            hardware.append({"gpu": "A100", "quantization": "nf4"})
    yield from cheap
    yield from hardware
    for one in hardware:
        yield from ({**one, **smaller} for smaller in cheap)


def _smaller_caches(full: Serving) -> Iterator[dict[str, Any]]:
    length = full.length
    while length >= 2 * _MIN_LENGTH:
        length = 2 ** ((length - 1).bit_length() - 1)
        yield {"max_model_len": length}
    for concurrency in (8, 4, 2, 1):
        if concurrency < full.concurrency:
            yield {"max_model_len": min(full.length, _MIN_LENGTH), "max_concurrency": concurrency}


def _fits(full: Serving, changes: dict[str, Any]) -> bool:
    names = {"max_model_len": "length", "max_concurrency": "concurrency"}
    return replace(full, **{names.get(name, name): value for name, value in changes.items()}).share <= _WARN
