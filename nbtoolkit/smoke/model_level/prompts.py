"""The prompts that measure the adapter, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

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
