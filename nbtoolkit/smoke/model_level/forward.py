"""Forward passes of a model, alone, in a left-padded batch or in another precision, and their comparison."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_KEPT = 1024
"""Tokens of a distribution that are kept; all others are one class of their own."""
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Distributions(NamedTuple):
    """Next-token distributions of one sequence, small enough to keep: [positions, kept].

    The last column of ``logprobs`` is the log-probability of all tokens that ``ids`` does not list.
    """

    ids: Tensor
    logprobs: Tensor


def logits_alone(model: Any, ids: Sequence[int]) -> Tensor:
    """Return the logits at every position, [tokens, vocabulary], of one sequence computed alone."""
    return _logits(model, input_ids=torch.tensor([list(ids)], device=_device(model)))[0]


def logits_batched(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return the same logits for several sequences in one left-padded batch."""
    ids, mask, positions = padded(rows, _device(model))
    logits = _logits(model, input_ids=ids, attention_mask=mask, position_ids=positions)
    return [one[-len(row) :] for one, row in zip(logits, rows, strict=True)]


def padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, attention mask and positions, each [rows, longest], padded on the left."""
    width = max(len(row) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(list(row))
        mask[index, width - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return ids.to(device), mask.to(device), positions.to(device)


def batches(items: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Yield the items in groups of ``size``."""
    for first in range(0, len(items), size):
        yield list(items[first : first + size])


def distributions(logits: Tensor) -> Distributions:
    """Return the distributions of logits [positions, vocabulary], on the CPU."""
    ids = logits.topk(min(_KEPT, logits.shape[-1] - 1), dim=-1).indices
    return Distributions(ids.cpu(), _at(logits, ids).cpu())


def divergence(reference: Distributions, logits: Tensor) -> Tensor:
    """Return KL(reference‖other) in nats at every position, for the logits of the other.

    The tokens that the reference does not list count as one, so that this is at most the exact divergence.
    """
    p = reference.logprobs.to(logits.device)
    q = _at(logits, reference.ids.to(logits.device))
    return torch.where(p == float("-inf"), 0.0, p.exp() * (p - q)).sum(-1)


def top_logprobs(logits: Tensor, count: int = 5) -> dict[int, float]:
    """Return the most likely tokens after one position, [vocabulary], with their log-probabilities."""
    values, ids = torch.log_softmax(logits.float(), dim=-1).topk(count)
    return {int(i): float(v) for i, v in zip(ids, values, strict=True)}


@contextmanager
def computing_in(model: nn.Module, dtype: torch.dtype) -> Generator[None]:
    """Compute in another precision with the same weights, which are cast layer by layer.

    Needs memory for one layer more. Layers with other weights, such as quantized ones, are left as they are.
    """
    originals: dict[nn.Module, dict[str, nn.Parameter]] = {}

    def cast(unit: nn.Module, _: Any) -> None:
        for module in unit.modules():
            originals[module] = dict(module.named_parameters(recurse=False))
            for name, value in originals[module].items():
                module.register_parameter(name, nn.Parameter(value.data.to(dtype), requires_grad=False))

    def restore(unit: nn.Module, *_: Any) -> None:
        for module in unit.modules():
            for name, value in originals.pop(module, {}).items():
                module.register_parameter(name, value)

    handles: list[Any] = []
    for unit in _units(model):
        if all(parameter.dtype in _DTYPES for parameter in unit.parameters()):
            handles += [unit.register_forward_pre_hook(cast), unit.register_forward_hook(restore)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module in list(originals):  # a layer raised
            restore(module)


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the decoder layers, and the modules outside of them that have no other modules or an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    for child in module.children():
        whole = isinstance(module, nn.ModuleList) or isinstance(
            child, BaseTunerLayer | AuxiliaryTrainingWrapper
        )
        if whole or next(child.children(), None) is None:
            yield child
        else:
            yield from _units(child)


def _at(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the log-probabilities of ``ids``, and of all other tokens together in one more column.

    In float64: the effect of a weak adapter in float32 is smaller than the rounding of a sum in float32.
    """
    logits = logits.double()
    total = logits.logsumexp(-1, keepdim=True)
    rest = logits.scatter(-1, ids, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, ids), rest], dim=-1) - total


def _logits(model: Any, **inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(use_cache=False, **inputs).logits


def _device(model: Any) -> Any:
    return model.get_input_embeddings().weight.device
