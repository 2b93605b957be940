"""Score answers against the checks of golden prompts; pure functions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn
from unicodedata import normalize

from pydantic import BaseModel, ConfigDict

from nbtoolkit.golden.prompts import AnswerCheck, GoldenPrompt

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.S | re.I)
_NUMBER = re.compile(
    r"(?:(?<![\w.,])[-+−])?(?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)?|\d+(?:[.,]\d+)?)(?:[eE][-+]?\d+)?"
)
_PROBES = ("", "⁂ zq\tx\n⁂", "7", "{}", "[]")
"""Answers that have nothing in common."""


class PromptScore(BaseModel):
    """The checks of one prompt that an answer fails, each with its reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failed_must: tuple[str, ...] = ()
    failed_nice: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the answer passes every ``must``."""
        return not self.failed_must


def score(prompt: GoldenPrompt, answer: str) -> PromptScore:
    """Return which checks of a prompt an answer fails."""
    return PromptScore(
        failed_must=tuple(reason for check in prompt.must if (reason := failure_of(check, answer))),
        failed_nice=tuple(reason for check in prompt.nice if (reason := failure_of(check, answer))),
    )


def score_all(prompts: Sequence[GoldenPrompt], answers: Sequence[str]) -> list[PromptScore]:
    """Score one answer for each prompt."""
    return [score(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def can_fail(check: AnswerCheck) -> bool:
    """Return whether there is an answer that fails the check; unknown for a regex with a lookaround: True."""
    if check.kind == "not_contains" or (check.kind == "regex" and re.search(r"\(\?<?[=!]", check.value)):
        return True
    return any(failure_of(check, answer) for answer in _PROBES)


def failure_of(check: AnswerCheck, answer: str) -> str:
    """Return why an answer fails a check; an empty text if it passes."""
    if check.kind == "number":
        return _number_failure(check, answer)
    if check.kind == "json_schema":
        return _json_failure(check.value, answer)
    text, wanted = normalize("NFC", answer), normalize("NFC", check.value)
    if check.kind == "regex":
        found = re.search(wanted, text, re.IGNORECASE if check.ignore_case else 0)
        return "" if found else f"does not match the regex {wanted!r}"
    if check.ignore_case:
        text, wanted = text.casefold(), wanted.casefold()
    match check.kind:
        case "contains":
            return "" if wanted in text else f"does not contain {check.value!r}"
        case "not_contains":
            return f"contains {check.value!r}" if wanted in text else ""
        case "exact":
            return "" if text.strip() == wanted.strip() else f"is not exactly {check.value!r}"


def _number_failure(check: AnswerCheck, answer: str) -> str:
    """Compare the last number of the answer, which is the result where an answer calculates."""
    numbers = _NUMBER.findall(answer)
    wanted = f"{check.value}" + (f" ± {check.tolerance:g}" if check.tolerance else "")
    if not numbers:
        return f"has no number, wanted {wanted}"
    found = _parse_number(numbers[-1])
    if math.isclose(found, check.value, rel_tol=1e-9, abs_tol=check.tolerance):
        return ""
    return f"its last number is {numbers[-1]}, wanted {wanted}"


def _parse_number(text: str) -> float:
    """Return a number as people write it: 1,234.5 or 3,14 or −2."""
    text = text.replace("−", "-")
    grouped = re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?([eE][-+]?\d+)?", text)
    return float(text.replace(",", "" if grouped else "."))


def _json_failure(schema: Any, answer: str) -> str:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError, best_match
    from jsonschema.validators import validator_for
    from referencing import Registry

    text = answer.strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        # An empty registry: no schema is fetched from the network.
        validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())
        error = best_match(validator.iter_errors(value))
    except ValueError as problem:
        return f"is not JSON: {problem}"
    except RecursionError:
        return "is JSON that is nested too deeply"
    if isinstance(error, ValidationError):
        return f"does not fit the JSON schema at {error.json_path}: {error.message[:200]}"
    return ""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}")
