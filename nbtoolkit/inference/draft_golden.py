"""Propose golden prompts from the answers in which an adapter differs from its base."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtoolkit.errors import AlreadyExists, InvalidSettings
from nbtoolkit.golden.golden_file import add_golden
from nbtoolkit.golden.prompt_parser import parse_prompt
from nbtoolkit.golden.prompts import MAX_TOKENS, GoldenPrompt
from nbtoolkit.golden.scoring import score
from nbtoolkit.inference.comparison import compare
from nbtoolkit.progress import Progress

if TYPE_CHECKING:
    from nbtoolkit.endpoint import Endpoint

DRAFT_FILE = "golden.draft.jsonl"
_MAX_EXACT = 60
"""Characters up to which a whole answer is a sensible ``exact`` check."""
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


def draft_golden(
    endpoint: Endpoint,
    prompts: Sequence[str],
    path: Path | str,
    *,
    model: str | None = None,
    max_tokens: int = MAX_TOKENS,
    progress: Progress | None = None,
) -> tuple[GoldenPrompt, ...]:
    """Write a draft of golden prompts to a new file, for you to edit, and return them.

    A prompt is proposed if the greedy answers of the adapter and its base differ, and the adapter gives the
    same answer twice; its check passes for the adapter and fails for the base. ``path`` is a file that does
    not exist, or a folder, for ``golden.draft.jsonl`` in it. ``model`` is the adapter's public name,
    optional if one is served. Costs three requests per prompt. Raises :class:`AlreadyExists`, and
    :class:`InvalidSettings` if no answer differs.

    >>> draft_golden(endpoint, ["I lost my dog."], "adapters/tone")[0].to_json()
    {'prompt': 'I lost my dog.', 'must': [{'exact': 'sadness'}]}
    """
    file = Path(path) / DRAFT_FILE if Path(path).is_dir() else Path(path)
    if file.exists():
        raise AlreadyExists(
            f"{file} exists, and a draft replaces no file.",
            next_step="rename it to golden.jsonl once you have edited it, or give another path",
            path=file,
        )
    adapter, base = _adapter_and_base(endpoint, model)
    answers = compare(endpoint, prompts, [base, adapter, adapter], progress=progress, max_tokens=max_tokens)
    drafts = [
        draft
        for prompt, (without, first, second) in zip(prompts, answers.answers, strict=True)
        if first == second and (draft := _draft(prompt, first, without, max_tokens))
    ]
    if not drafts:
        raise InvalidSettings(
            f"{adapter} and {base} answer none of the {len(prompts)} prompts differently.",
            next_step="give prompts of the adapter's task",
        )
    for draft in drafts:
        add_golden(file, draft, secrets=[endpoint.key])
    return tuple(drafts)


def _adapter_and_base(endpoint: Endpoint, model: str | None) -> tuple[str, str]:
    served = endpoint.models()
    adapters = {one.id: one.parent for one in served if one.parent}
    names = [model] if model else list(adapters)
    if len(names) != 1 or names[0] not in adapters:
        raise InvalidSettings(
            f"{endpoint.url} serves the adapters {', '.join(adapters) or 'none'}; the draft needs one.",
            next_step="name a served adapter, such as model='tone'",
        )
    return names[0], str(adapters[names[0]])


def _draft(prompt: str, answer: str, base_answer: str, max_tokens: int) -> GoldenPrompt | None:
    """Return a golden prompt that an answer passes and the base's does not; None if there is none."""
    for must in _proposals(answer):
        draft = parse_prompt({"prompt": prompt, "max_tokens": max_tokens, "must": must})
        if score(draft, answer).passed and not score(draft, base_answer).passed:
            return draft
    return None


def _proposals(answer: str) -> list[dict[str, Any]]:
    """Return possible checks of an answer, the best first."""
    if not answer.strip():
        return []
    found: list[dict[str, Any]] = []
    if _is_json(answer):
        found.append({"json_schema": {"type": ["object", "array"]}})
    if len(answer) <= _MAX_EXACT and "\n" not in answer:
        found.append({"exact": answer})
    return [*found, *({"contains": one} for part in _SENTENCE.findall(answer) if (one := part.strip()))]


def _is_json(answer: str) -> bool:
    try:
        return isinstance(json.loads(answer), dict | list)
    except (ValueError, RecursionError):
        return False
