"""Prompts as token ids, and forward passes with and without the adapter, alone and left-padded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

GENERIC = (
    "I lost my dog yesterday and the house feels empty.",
    "We won the match and everybody is singing in the street!",
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three things that one needs for a picnic.",
    "Explain in simple words why the sky is blue.",
    "Summarise: the meeting was moved to Tuesday because the room was taken.",
    'Complete the JSON: {"name": "Ada", "role":',
)
"""Short prompts of many kinds, because the adapter's task is unknown."""

MAX_TOKENS = 128
CONTEXT = 10
"""Longest context of a fingerprint, in tokens; every swap replays it while other requests are running."""


def render_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return each prompt rendered by the chat template, with the generation prompt.

    Without a template it is the plain text. Longer prompts keep their last :data:`MAX_TOKENS` tokens.
    """
    ids = [_ids(tokenizer, _chat(tokenizer, prompt)) for prompt in prompts]
    return [one[-MAX_TOKENS:] for one in ids if one]


def short_sequences(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Return sequences of at most :data:`CONTEXT` tokens whose prefixes are candidate contexts.

    They are the ends of rendered prompts, at which an answer begins, and the beginnings of the plain texts.
    """
    sequences: dict[tuple[int, ...], None] = {}
    for prompt in prompts:
        chat = _ids(tokenizer, _chat(tokenizer, prompt))
        for length in (CONTEXT, CONTEXT // 2):
            sequences[tuple(chat[-length:])] = None
        sequences[tuple(_ids(tokenizer, prompt)[:CONTEXT])] = None
    return [list(one) for one in sequences if len(one) > 1]


def batches(items: Sequence[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Yield the items in groups of ``size``."""
    for first in range(0, len(items), size):
        yield list(items[first : first + size])


def _chat(tokenizer: Any, prompt: str) -> str:
    if not tokenizer.chat_template:
        return prompt
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"])


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
