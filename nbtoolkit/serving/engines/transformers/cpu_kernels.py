"""The same linear layers in fewer and cheaper operations.

Decoding reads every weight for a handful of rows, so on a CPU it pays to have weights lie as oneDNN's
kernels want them instead of reordering them at every call, and to run a LoRA layer as four operations
instead of peft's dozen. Numbers differ from the plain path in the last bits only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import nn
from torch.nn.functional import linear

_BATCH_HINT = 8
_MEMORY_SHARE = 4
"""Weights are laid out a second time only where this many times their size is free."""

Low = tuple[torch.Tensor, torch.Tensor, float]
"""A, B and the scaling of one adapter in one layer."""


def pack(model: nn.Module) -> bool:
    """Lay out a CPU model's linear weights for oneDNN; tells whether it did.

    Costs the weights' memory once more and about a second per 500 MB. SmolLM2-135M in bfloat16: its
    linear layers take half the time at 1 to 8 rows.
    """
    layers: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
    size = sum(layer.weight.nbytes for layer in layers)
    on_cpu = all(layer.weight.device.type == "cpu" for layer in layers)
    if not on_cpu or size * _MEMORY_SHARE > free_memory() or not _works():
        return False
    for layer in layers:
        if layer.weight.dtype in (torch.bfloat16, torch.float32):
            layer.forward = _packed(layer.weight.detach(), layer.bias)
    return True


def shorten(layer: Any, active: Callable[[], str | None]) -> None:
    """Let a peft layer run its plain adapters in four operations; ``active`` names the one in force.

    Other adapters in it (DoRA, biases, another dtype) go through peft's own code.
    """
    if type(layer) is not LoraLinear or type(layer.base_layer) is not nn.Linear:
        return
    base: Callable[[torch.Tensor], torch.Tensor] = layer.base_layer.forward
    slow: Callable[..., torch.Tensor] = layer.forward
    pairs: Mapping[str, Low] = {name: low for name in layer.lora_A if (low := _plain(layer, name))}
    others = set(layer.lora_A) - set(pairs)

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        name = active()
        if args or kwargs or name in others:
            return slow(x, *args, **kwargs)
        if name not in pairs:
            return base(x)
        a, b, scaling = pairs[name]
        return base(x).add_(linear(linear(x, a), b), alpha=scaling)

    layer.forward = forward


def restore(layer: Any) -> None:
    """Give a layer its own forward back."""
    layer.__dict__.pop("forward", None)


def free_memory() -> int:
    """Return how many bytes this process may still take; a container's limit counts."""
    meminfo, limit, used = (
        Path(path) for path in ("/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
    )
    if not meminfo.is_file():
        return 0  # unknown: take no more than needed
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()) != "max":
        free = min(free, int(text) - int(used.read_text(encoding="ascii")))
    return free


def _plain(layer: Any, name: str) -> Low | None:
    """Return an adapter's matrices where nothing but B·A·scaling is added."""
    a, b = layer.lora_A[name], layer.lora_B[name]
    if name in layer.lora_variant or b.bias is not None or a.weight.dtype != layer.base_layer.weight.dtype:
        return None
    return a.weight.detach(), b.weight.detach(), float(layer.scaling[name])


def _packed(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
    operations: Any = torch.ops.mkldnn
    laid_out = operations._reorder_linear_weight(weight, _BATCH_HINT)
    multiply = operations._linear_pointwise

    def forward(x: torch.Tensor) -> torch.Tensor:
        return multiply(x, laid_out, bias, "none", [], "")

    return forward


def _works() -> bool:
    """Try it once: the operations are torch's own, used by its compiler, but not documented."""
    weight = torch.randn(32, 16)
    x = torch.randn(3, 1, 16)
    try:
        with torch.inference_mode():
            return torch.allclose(_packed(weight, None)(x), linear(x, weight), atol=1e-4)
    except (AttributeError, RuntimeError, TypeError):
        return False
