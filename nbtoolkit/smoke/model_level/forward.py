"""Forward passes with and without the adapter, alone and left-padded in a batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor


def logits_alone(model: Any, ids: Sequence[int], *, adapter: bool, last: bool = False) -> Tensor:
    """Return the logits at every position, [tokens, vocabulary], of one sequence computed alone.

    ``last`` returns those of the last position only, [1, vocabulary].
    """
    with torch.inference_mode(), nullcontext() if adapter else model.disable_adapter():
        rows = torch.tensor([list(ids)], device=_device(model))
        logits = model(input_ids=rows, use_cache=False, **_logits_option(model, last)).logits[0]
    return logits[-1:] if last else logits


def logits_batched(
    model: Any, rows: Sequence[Sequence[int]], *, adapter: bool, last: bool = False
) -> list[Tensor]:
    """Return the same logits for several sequences in one left-padded batch."""
    ids, mask, positions = padded(rows, _device(model))
    with torch.inference_mode(), nullcontext() if adapter else model.disable_adapter():
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            **_logits_option(model, last),
        ).logits
    return [logits[i][-1:] if last else logits[i][-len(row) :] for i, row in enumerate(rows)]


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


def divergence(reference: Tensor, other: Tensor) -> Tensor:
    """Return KL(reference‖other) in nats at every position, softmax in float32."""
    p = torch.log_softmax(reference.float(), dim=-1)
    q = torch.log_softmax(other.float(), dim=-1)
    return (p.exp() * (p - q)).sum(-1)


def top_logprobs(logits: Tensor, count: int = 5) -> dict[int, float]:
    """Return the most likely tokens after one position, [vocabulary], with their log-probabilities."""
    values, ids = torch.log_softmax(logits.float(), dim=-1).topk(count)
    return {int(i): float(v) for i, v in zip(ids, values, strict=True)}


def _logits_option(model: Any, last: bool) -> dict[str, int]:
    """Return the option for logits of the last position only, if the model has it: others cost memory."""
    parameters = inspect.signature(model.get_base_model().forward).parameters
    return {"logits_to_keep": 1} if last and "logits_to_keep" in parameters else {}


def _device(model: Any) -> Any:
    return model.get_input_embeddings().weight.device
