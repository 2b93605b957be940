"""The verdict of G5 on the answers to golden prompts; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.golden.scoring import PromptScore, can_fail, score_all
from nbtoolkit.smoke.check import CheckOutcome, failure, passed, warning


class PreviousGoldenAnswers(BaseModel):
    """The answers of another adapter to some of the same prompts; ``name`` is the adapter's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    prompts: tuple[GoldenPrompt, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class GoldenAnswers:
    """The greedy answers of adapter and base to golden prompts.

    ``repeats`` are the adapter's in other batches. ``refused`` maps an index to the reason for which the
    server would refuse the prompt. ``perplexity`` is that of the expected answers, of adapter and base;
    None if there are none.
    """

    prompts: Sequence[GoldenPrompt]
    own: Sequence[str]
    base: Sequence[str]
    repeats: Sequence[Sequence[str]] = ()
    refused: Mapping[int, str] = field(default_factory=dict[int, str])
    perplexity: tuple[float, float] | None = None

    @property
    def runs(self) -> list[Sequence[str]]:
        """The adapter's answers in every batch."""
        return [self.own, *self.repeats]

    def scores(self, answers: Sequence[str]) -> list[PromptScore]:
        """Return the score of an answer to each prompt; a refused prompt fails all its checks."""
        scores = score_all(self.prompts, answers)
        for index, reason in self.refused.items():
            prompt, missing = self.prompts[index], f"is missing: {reason}"
            scores[index] = PromptScore(
                failed_must=(missing,) * len(prompt.must), failed_nice=(missing,) * len(prompt.nice)
            )
        return scores


def judge_golden(
    measured: GoldenAnswers, previous: PreviousGoldenAnswers | None, nice_warn: float
) -> CheckOutcome:
    """Fail if an answer fails a ``must`` in any batch; warn if the set is weak or the nice checks are."""
    prompts = measured.prompts
    runs = [measured.scores(answers) for answers in measured.runs]
    own, base = runs[0], measured.scores(measured.base)
    musts = [index for index, prompt in enumerate(prompts) if prompt.must]
    must_counts = [sum(scores[index].passed for index in musts) for scores in runs]
    nice_counts = [_nice_passed(prompts, scores) for scores in runs]
    nice_total = sum(len(prompt.nice) for prompt in prompts)
    discriminating = [index for index in musts if own[index].passed and not base[index].passed]
    evidence: dict[str, Any] = {
        "prompts": len(prompts),
        "with_must": len(musts),
        "must_passed": must_counts[0],
        "nice_passed": nice_counts[0],
        "nice_checks": nice_total,
        "discriminating": len(discriminating),
        "base_must_passed": sum(base[index].passed for index in musts),
        "base_nice_passed": _nice_passed(prompts, base),
        "must_passed_in_batches": must_counts,
        "nice_passed_in_batches": nice_counts,
        "failed": [_failed(measured, runs, index) for index in musts if _fails(runs, index)],
        "nice_failed": [
            {"prompt": prompt.id, "problems": scores.failed_nice, "answer": answer}
            for prompt, scores, answer in zip(prompts, own, measured.own, strict=True)
            if scores.failed_nice
        ],
        "previous": _previous(previous),
        "answers": [
            {"prompt": prompt.id, "question": prompt.question, "adapter": own_answer, "base": base_answer}
            for prompt, own_answer, base_answer in zip(prompts, measured.own, measured.base, strict=True)
        ],
    }
    if measured.perplexity:
        evidence["perplexity"] = dict(zip(("adapter", "base"), measured.perplexity, strict=True))
    summary = _summary(evidence, len(runs))
    if evidence["failed"]:
        first = evidence["failed"][0]
        return failure(
            f"{first['prompt']}: the answer {first['problems'][0]}; {summary}",
            evidence,
            "see the answers in this check's evidence; train on such prompts, or correct the golden prompt",
        )
    problems = _weaknesses(prompts, musts, evidence, nice_warn)
    if problems:
        text = "; ".join([summary, *problems])
        return warning(text, evidence, "; ".join(dict.fromkeys(problems.values())))
    return passed(summary, evidence)


def _fails(runs: Sequence[Sequence[PromptScore]], index: int) -> bool:
    return not all(scores[index].passed for scores in runs)


def _failed(measured: GoldenAnswers, runs: Sequence[Sequence[PromptScore]], index: int) -> dict[str, Any]:
    """Return prompt, problems and answer of the first batch in which a ``must`` fails."""
    failing = [number for number, scores in enumerate(runs) if not scores[index].passed]
    prompt = measured.prompts[index]
    problems = list(runs[failing[0]][index].failed_must)
    if len(failing) < len(runs):
        problems[0] += f" (in {len(failing)} of {len(runs)} batch compositions)"
    return {
        "prompt": prompt.id,
        "question": prompt.question,
        "problems": problems,
        "answer": measured.runs[failing[0]][index],
    }


def _nice_passed(prompts: Sequence[GoldenPrompt], scores: Sequence[PromptScore]) -> int:
    return sum(
        len(prompt.nice) - len(found.failed_nice) for prompt, found in zip(prompts, scores, strict=True)
    )


def _previous(previous: PreviousGoldenAnswers | None) -> dict[str, Any] | str:
    if previous is None:
        return "skipped: no green report of another adapter on this base has these prompts"
    asked = previous.prompts
    scores = score_all(asked, previous.answers)
    return {
        "adapter": previous.name,
        "same_prompts": len(asked),
        "with_must": sum(bool(prompt.must) for prompt in asked),
        "must_passed": sum(found.passed for prompt, found in zip(asked, scores, strict=True) if prompt.must),
        "nice_passed": _nice_passed(asked, scores),
    }


def _summary(evidence: Mapping[str, Any], batches: int) -> str:
    total, passing = evidence["with_must"], evidence["must_passed_in_batches"]
    repeated = f" in {batches} batch compositions" if batches > 1 else ""
    parts = [f"{_band(passing)} of {total} golden prompts pass{repeated}"]
    base = f"the base passes {evidence['base_must_passed']} of {total}"
    parts.append(f"{evidence['discriminating']} discriminate: {base}")
    if checks := evidence["nice_checks"]:
        parts.append(f"nice: {_band(evidence['nice_passed_in_batches'])} of {checks}")
    if isinstance(previous := evidence["previous"], dict):
        parts.append(
            f"{previous['adapter']} before: {previous['must_passed']} of {previous['with_must']} same prompts"
        )
    return "; ".join(parts)


def _band(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _weaknesses(
    prompts: Sequence[GoldenPrompt], musts: Sequence[int], evidence: Mapping[str, Any], nice_warn: float
) -> dict[str, str]:
    """Return problem → remedy of a set that blocks nothing, and of answers that are only acceptable."""
    found: dict[str, str] = {}
    if not any(can_fail(check) for index in musts for check in prompts[index].must):
        found["nothing can fail: no prompt has a must that some answer fails"] = (
            "add musts to the golden prompts"
        )
    elif evidence["base_must_passed"] == len(musts):
        found["the set does not discriminate"] = (
            "add prompts whose answers the adapter changes; draft_golden() proposes some"
        )
    low = min(evidence["nice_passed_in_batches"])
    if low < nice_warn * evidence["nice_checks"]:
        found[f"fewer than {nice_warn:.0%} of the nice checks pass"] = "see nice_failed in the evidence"
    perplexity = evidence.get("perplexity")
    if perplexity and perplexity["adapter"] > perplexity["base"]:
        figures = f"perplexity {perplexity['adapter']:.3g}, base {perplexity['base']:.3g}"
        found[f"the expected answers are less likely than for the base: {figures}"] = (
            "check whether the adapter was trained for this task, and with this chat template"
        )
    return found
