"""The adapter's own matrices, module by module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def lora_layers(model: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield path in the base and module of every layer that holds adapter ``name``."""
    from peft.tuners.lora import LoraLayer

    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and (name in module.lora_A or name in module.lora_embedding_A):
            yield path.removeprefix("base_model.model."), module


def norm_ratios(model: Any, name: str) -> dict[str, float]:
    """Return ‖BA‖·s/‖W‖ of every module, Frobenius norms.

    ‖BA‖² is the trace of (BᵀB)(AAᵀ), so nothing larger than rank × rank is made.
    """
    return {path: _ratio(module, name) for path, module in lora_layers(model, name)}


def _ratio(module: Any, name: str) -> float:
    a, b = _pair(module, name)
    with torch.inference_mode():
        square = torch.sum((b.T @ b) * (a @ a.T).T)
        weight = torch.linalg.vector_norm(_weight(module).float())
    norm = float(square.clamp(min=0).sqrt()) * abs(float(module.scaling[name]))
    return norm / float(weight) if float(weight) else float("inf")


def _pair(module: Any, name: str) -> tuple[Tensor, Tensor]:
    if name in module.lora_embedding_A:
        a, b = module.lora_embedding_A[name], module.lora_embedding_B[name]
    else:
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
    a, b = a.detach().double(), b.detach().double()
    return a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)


def _weight(module: Any) -> Tensor:
    from peft.utils.integrations import dequantize_module_weight

    base = module.get_base_layer()
    if hasattr(getattr(base, "weight", None), "quant_state"):
        return dequantize_module_weight(base)
    parameter = getattr(module, "parameter_name", "weight")  # stacked experts hold other parameters
    return getattr(base, parameter).detach()
