"""G4: compare greedy answers of base and adapter, and fail if only the adapter's degenerate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from nbtoolkit.serving.stop_tokens import stop_token_ids
from nbtoolkit.smoke.check import CheckOutcome, check, failure, passed
from nbtoolkit.smoke.model_level.context import ModelContext, on_clean_base
from nbtoolkit.smoke.model_level.effect import BATCH
from nbtoolkit.smoke.model_level.forward import batches, padded


@check("G4", "model", "sanity")
def degeneration(context: ModelContext) -> CheckOutcome:
    """Generate greedy answers with base and adapter, and compare them."""
    return compare_answers(context, base_answers(context), adapter_answers(context))


def adapter_answers(context: ModelContext) -> list[list[int]]:
    """Return the adapter's greedy answer to every prompt; generated once."""
    context.adapter_answers = context.adapter_answers or greedy_answers(context, context.model, "adapter")
    return context.adapter_answers


@on_clean_base
def base_answers(context: ModelContext) -> list[list[int]]:
    """Return the base's greedy answer to every prompt."""
    return greedy_answers(context, context.base, "base")


def compare_answers(
    context: ModelContext, base: Sequence[list[int]], tuned: Sequence[list[int]]
) -> CheckOutcome:
    """Fail if an answer of the adapter degenerates and the base's answer to the same prompt does not.

    An adapter whose answers degenerate no more often than the base's passes: greedy answers of small models
    repeat themselves on one prompt or another.

    ``base`` and ``tuned`` are the answers without and with the adapter, as token ids.
    """
    tokenizer, settings = context.tokenizer, context.settings
    broken: list[dict[str, str]] = []
    only_base = 0
    samples: list[dict[str, str]] = []
    for prompt, without, with_adapter in zip(context.prompts, base, tuned, strict=True):
        answer = _text(tokenizer, with_adapter)
        samples.append({"prompt": prompt, "base": _text(tokenizer, without), "adapter": answer})
        problem = find_problem(with_adapter, tokenizer, settings)
        base_problem = find_problem(without, tokenizer, settings)
        only_base += bool(base_problem and not problem)
        if problem and not base_problem:
            broken.append({"prompt": prompt, "problem": problem, "answer": answer})
    evidence = {"tokens": settings.answer_tokens, "broken": broken, "answers": samples}
    if len(broken) > only_base:
        first = broken[0]
        return failure(
            f"the adapter degenerates on {len(broken)} of {len(samples)} prompts and the base does not: "
            f"{first['problem']} on {first['prompt']!r}",
            evidence,
            "the adapter is overtrained or too strong: take an earlier checkpoint, or a lower alpha",
        )
    return passed(
        f"{len(samples)} greedy answers of up to {settings.answer_tokens} tokens are sound", evidence
    )


def find_problem(answer: Sequence[int], tokenizer: Any, settings: Any) -> str:
    """Return the problem of an answer (token ids, without the stop token), or an empty text."""
    if not answer:
        return "an empty answer"
    unknown = tokenizer.unk_token_id
    if unknown is not None and answer.count(unknown) > settings.unknown_share * len(answer):
        return f"{answer.count(unknown)} unknown tokens of {len(answer)}"
    longest = max(len(list(group)) for _, group in groupby(answer))
    if longest >= settings.repeat_limit:
        return f"one token {longest} times in a row"
    if len(answer) == settings.answer_tokens and (phrase := repeated_phrase(answer, settings.repeat_limit)):
        return f"a phrase of {phrase} tokens repeated to the end"
    if "�" in _text(tokenizer, answer).rstrip("�"):  # the length limit may cut a character
        return "text that cannot be decoded"
    return ""


def repeated_phrase(answer: Sequence[int], repeat_limit: int) -> int:
    """Return the length of the phrase that the last half of an answer repeats three times or more; else 0."""
    needed = max(len(answer) // 2, 2 * repeat_limit)
    for length in range(2, len(answer) // 3 + 1):
        covered = max(needed, 3 * length)
        tail = answer[-covered:]
        if len(tail) == covered and all(a == b for a, b in zip(tail, tail[length:], strict=False)):
            return length
    return 0


def greedy_answers(context: ModelContext, model: Any, name: str) -> list[list[int]]:
    """Return a model's greedy answer to every prompt; ``name`` is what the progress calls it."""
    answers = list[list[int]]()
    for group in batches(context.prompt_ids, batch_size(model.config)):
        context.report(f"letting the {name} answer", len(answers), len(context.prompt_ids))
        with torch.inference_mode():
            answers += generate_greedy(context, model, group, context.settings.answer_tokens)
    return answers


def generate_greedy(context: ModelContext, model: Any, rows: list[list[int]], length: int) -> list[list[int]]:
    """Generate greedily, all rows in one batch; a row ends before its stop token."""
    stops = stop_token_ids(model, context.tokenizer, context.chat_template)
    ids, mask, positions = padded(rows, model.get_input_embeddings().weight.device)
    cache: Any = None
    answers: list[list[int]] = [[] for _ in rows]
    ended = [False] * len(rows)
    for step in range(length):
        output = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        chosen = output.logits[:, -1].argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            ended[row] = ended[row] or token in stops
            if not ended[row]:
                answers[row].append(token)
        if all(ended):
            break
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=-1)
        if step % 8 == 0:
            context.report("writing greedy answers", step, length)
    return answers


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def batch_size(config: Any) -> int:
    """Return the rows per batch; padded rows in a model with a sliding window silently give wrong text."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"]
    full = set(kinds) == {"full_attention"} and not getattr(text, "sliding_window", None)
    return BATCH if full else 1
