"""G4: does the adapter still speak, where the base does?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import Any

import torch

from nbtoolkit.serving.stop_tokens import stop_token_ids
from nbtoolkit.smoke.check import CheckOutcome, check
from nbtoolkit.smoke.model_level.context import ModelSubject
from nbtoolkit.smoke.model_level.effect import BATCH
from nbtoolkit.smoke.model_level.forward import padded
from nbtoolkit.smoke.model_level.prompts import batches


@check("G4", "model", "sanity")
def sanity(subject: ModelSubject) -> CheckOutcome:
    """Let base and adapter answer greedily; only what the adapter alone breaks counts."""
    length = subject.settings.answer_tokens
    answers = {adapter: _answers(subject, adapter, length) for adapter in (False, True)}
    broken: list[dict[str, str]] = []
    for prompt, base, tuned in zip(subject.prompts, answers[False], answers[True], strict=True):
        problem = degenerate(tuned, subject.tokenizer, subject.settings)
        if problem and not degenerate(base, subject.tokenizer, subject.settings):
            broken.append({"prompt": prompt, "problem": problem, "answer": _text(subject.tokenizer, tuned)})
    samples = [
        {
            "prompt": prompt,
            "base": _text(subject.tokenizer, base),
            "adapter": _text(subject.tokenizer, tuned),
        }
        for prompt, base, tuned in zip(subject.prompts, answers[False], answers[True], strict=True)
    ]
    evidence = {"tokens": length, "broken": broken, "answers": samples}
    if broken:
        first = broken[0]
        return CheckOutcome(
            "fail",
            f"the adapter degenerates on {len(broken)} of {len(samples)} prompts where the base does not: "
            f"{first['problem']} on {first['prompt']!r}",
            evidence,
            "the adapter is overtrained or too strong: take an earlier checkpoint, or a lower alpha",
        )
    return CheckOutcome("pass", f"{len(samples)} greedy answers of up to {length} tokens are sound", evidence)


def degenerate(answer: Sequence[int], tokenizer: Any, settings: Any) -> str:
    """Return what is wrong with an answer (token ids, without the stop token), or nothing."""
    if not answer:
        return "an empty answer"
    unknown = tokenizer.unk_token_id
    if unknown is not None and answer.count(unknown) > settings.unknown_share * len(answer):
        return f"{answer.count(unknown)} unknown tokens of {len(answer)}"
    longest = max(len(list(group)) for _, group in groupby(answer))
    if longest >= settings.repeat_limit:
        return f"one token {longest} times in a row"
    if "�" in _text(tokenizer, answer).rstrip("�"):  # the budget may end inside a character
        return "text that cannot be decoded"
    return ""


def _answers(subject: ModelSubject, adapter: bool, length: int) -> list[list[int]]:
    model, found = subject.model, list[list[int]]()
    who = "adapter" if adapter else "base"
    # rows padded into a sliding window give wrong text without an error
    size = BATCH if _plain_attention(model.config) else 1
    for group in batches(subject.prompt_ids, size):
        subject.tell(f"letting the {who} answer", len(found), len(subject.prompt_ids))
        with torch.inference_mode(), nullcontext() if adapter else model.disable_adapter():
            found += _greedy(subject, model, group, length)
    return found


def _greedy(subject: ModelSubject, model: Any, rows: list[list[int]], length: int) -> list[list[int]]:
    """Answer greedily, all rows in one batch; a row ends before its stop token."""
    stops = stop_token_ids(model, subject.tokenizer, subject.tokenizer.chat_template)
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
            subject.tell("writing greedy answers", step, length)
    return answers


def _plain_attention(config: Any) -> bool:
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ["full_attention"]
    return set(kinds) == {"full_attention"} and not getattr(text, "sliding_window", None)


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
