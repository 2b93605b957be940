"""G5: greedy answers of adapter and base to the golden prompts, the adapter's in several batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.serving.chat_template import ChatTemplateError
from nbtoolkit.serving.stop_tokens import stop_token_ids
from nbtoolkit.smoke.check import CheckOutcome, check
from nbtoolkit.smoke.golden_verdict import GoldenAnswers, judge_golden
from nbtoolkit.smoke.model_level.context import ModelContext, on_clean_base
from nbtoolkit.smoke.model_level.degeneration import batch_size, generate_greedy
from nbtoolkit.smoke.model_level.forward import logits_alone


class _GoldenMeasurement(NamedTuple):
    """Answers as token ids; ``loss`` is the mean negative log-likelihood of the expected answers, if any."""

    answers: list[list[int]]
    loss: float | None


@check("G5", "model", "golden prompts")
def golden_prompts(context: ModelContext) -> CheckOutcome:
    """Ask adapter and base the golden prompts, and judge the answers."""
    if not context.task.golden:
        return CheckOutcome("skipped", "skipped: there is no golden.jsonl next to the adapter")
    return judge_golden(measure_golden(context), context.task.previous, context.settings.nice_warn)


def measure_golden(context: ModelContext) -> GoldenAnswers:
    """Let adapter and base answer all golden prompts; the adapter also in other batches and alone."""
    _, refused = token_ids(context)
    base = measure_base_golden(context)
    own = _measure(context, context.model, "adapter")
    repeats = [
        _answer(context, context.model, "adapter in other batches", reverse=True),
        _answer_alone(context, context.model, own.answers),
    ]
    return GoldenAnswers(
        context.task.golden,
        own=_texts(context, own.answers),
        base=_texts(context, base.answers),
        repeats=[_texts(context, answers) for answers in repeats],
        refused=refused,
        perplexity=(_exp(own.loss), _exp(base.loss))
        if own.loss is not None and base.loss is not None
        else None,
    )


@on_clean_base
def measure_base_golden(context: ModelContext) -> _GoldenMeasurement:
    """Let the base answer all golden prompts."""
    return _measure(context, context.base, "base")


def adapter_answers(context: ModelContext, name: str) -> list[str]:
    """Return the adapter's answer to every golden prompt; ``name`` is what the progress calls it."""
    return _texts(context, _answer(context, context.model, name))


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700))  # a float has no more


def token_ids(context: ModelContext) -> tuple[list[list[int]], dict[int, str]]:
    """Return the tokens of every prompt as the server makes them, and why it would refuse some, by index."""
    limit = getattr(context.base_config.get_text_config(), "max_position_embeddings", None)
    rows, refused = list[list[int]](), dict[int, str]()
    for index, prompt in enumerate(context.task.golden):
        rows.append([])
        try:
            rows[index] = prompt_ids(context, prompt)
        except ChatTemplateError as error:
            refused[index] = f"the chat template refuses it: {error}"
            continue
        if limit and len(rows[index]) + prompt.max_tokens > limit:
            needed = f"{len(rows[index])} tokens and {prompt.max_tokens} for the answer"
            refused[index] = f"it needs {needed}, and the model has {limit}"
    return rows, refused


def prompt_ids(context: ModelContext, prompt: GoldenPrompt) -> list[int]:
    """Return the tokens of a prompt; without a chat template, of its plain text."""
    template = context.chat_template
    if template is None:
        return list(context.tokenizer(prompt.text)["input_ids"])
    return list(context.tokenizer(template.render(prompt.chat), add_special_tokens=False)["input_ids"])


def _measure(context: ModelContext, model: Any, name: str) -> _GoldenMeasurement:
    return _GoldenMeasurement(_answer(context, model, name), _expected_loss(context, model))


def _answer(context: ModelContext, model: Any, name: str, *, reverse: bool = False) -> list[list[int]]:
    """Return the greedy answer to every prompt, computed in batches; empty if the prompt is refused."""
    rows, refused = token_ids(context)
    order = [index for index in range(len(rows)) if index not in refused]
    answers: list[list[int]] = [[] for _ in rows]
    size = batch_size(model.config)
    for first in range(0, len(order), size):
        context.report(f"golden prompts: letting the {name} answer", first, len(order))
        group = (order[::-1] if reverse else order)[first : first + size]
        limits = [context.task.golden[index].max_tokens for index in group]
        with torch.inference_mode():
            found = generate_greedy(context, model, [rows[index] for index in group], max(limits))
        for index, answer, limit in zip(group, found, limits, strict=True):
            answers[index] = answer[:limit]
    return answers


def _answer_alone(context: ModelContext, model: Any, answers: Sequence[list[int]]) -> list[list[int]]:
    """Return the greedy answers of prompts computed alone, given those in batches.

    One forward pass over prompt and answer shows whether each token is the likeliest one when computed
    alone too; an answer is generated again only if it is not.
    """
    rows, refused = token_ids(context)
    stops = stop_token_ids(model, context.tokenizer, context.chat_template)
    alone: list[list[int]] = []
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if index in refused:
            alone.append([])
            continue
        context.report("golden prompts: letting the adapter answer alone", index, len(rows))
        limit = context.task.golden[index].max_tokens
        likeliest = logits_alone(model, [*row, *answer])[len(row) - 1 :].argmax(-1).tolist()
        ended = len(answer) == limit or likeliest[-1] in stops
        if likeliest[: len(answer)] != answer or not ended:
            with torch.inference_mode():
                (answer,) = generate_greedy(context, model, [row], limit)
        alone.append(answer)
    return alone


def _expected_loss(context: ModelContext, model: Any) -> float | None:
    """Return the mean negative log-likelihood per token of the expected answers."""
    rows, refused = token_ids(context)
    total, tokens = 0.0, 0
    for index, prompt in enumerate(context.task.golden):
        if prompt.expected is None or index in refused:
            continue
        wanted = context.tokenizer(prompt.expected, add_special_tokens=False)["input_ids"]
        logits = logits_alone(model, [*rows[index], *wanted])[len(rows[index]) - 1 : -1]
        losses = torch.log_softmax(logits.float(), -1).gather(
            -1, torch.tensor(wanted, device=logits.device)[:, None]
        )
        total -= float(losses.sum())
        tokens += len(wanted)
    return total / tokens if tokens else None


def _texts(context: ModelContext, answers: Sequence[list[int]]) -> list[str]:
    """Return answers as the server's text."""
    return [
        context.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in answers
    ]
