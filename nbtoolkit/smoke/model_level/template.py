"""G3: the chat template renders the user's words and the generation prompt, and answers end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nbtoolkit.serving.chat_template import ChatTemplate, ChatTemplateError
from nbtoolkit.smoke.check import CheckOutcome, check, failure, passed, warning
from nbtoolkit.smoke.model_level.context import ModelContext
from nbtoolkit.smoke.model_level.degeneration import adapter_answers, base_answers

_QUESTION, _ANSWER, _SYSTEM = "nbtoolkitquestion", "nbtoolkitanswer", "nbtoolkitsystem"
_USER = {"role": "user", "content": _QUESTION}
_ASSISTANT = {"role": "assistant", "content": _ANSWER}
_REMEDY = "save the template that the adapter was trained with as chat_template.jinja in the adapter's folder"


@check("G3", "model", "template, stop")
def template_and_stop(context: ModelContext) -> CheckOutcome:
    """Render conversations with the template in force, and count the greedy answers that end."""
    found = check_template(context.chat_template)
    if found.verdict == "fail":
        return found
    base, tuned = base_answers(context), adapter_answers(context)
    return check_stops(found, base, tuned, context.settings.answer_tokens)


def check_stops(
    found: CheckOutcome, base: Sequence[list[int]], tuned: Sequence[list[int]], length: int
) -> CheckOutcome:
    """Fail if the base ends most answers within ``length`` tokens and the adapter none.

    If the base ends at least a quarter of them, it is a warning; if fewer, the answers are too short to tell,
    and ``found`` is returned with the counts.
    """
    ended = {
        name: sum(len(one) < length for one in each) for name, each in (("base", base), ("adapter", tuned))
    }
    evidence = {**found.evidence, "ended": ended}
    if 4 * ended["base"] >= len(base) and not ended["adapter"]:
        judge = failure if 2 * ended["base"] >= len(base) else warning
        return judge(
            f"the adapter ends none of {len(tuned)} answers within {length} tokens, the base {ended['base']}",
            evidence,
            "train with the end-of-sequence token in the labels, after each answer; if long answers are "
            "intended, raise answer_tokens",
        )
    counts = f"{ended['adapter']} of {len(tuned)} answers end within {length} tokens"
    return replace(found, summary=f"{found.summary}; {counts}", evidence=evidence)


def check_template(template: ChatTemplate | None) -> CheckOutcome:
    """Fail without a template, or if it raises or loses the user's words; warn if it lacks other parts."""
    if template is None:
        return failure(
            "there is no chat template, so chat requests are refused",
            remedy=f"{_REMEDY}; for /v1/completions alone, deploy with an override_reason",
        )
    evidence: dict[str, Any] = {"templates": sorted(template.templates)}
    try:
        prompt = template.render([_USER])
    except ChatTemplateError as error:
        return failure(f"the chat template raises: {error}", evidence, _REMEDY)
    evidence |= {"prompt": prompt, "system_role": _system_role(template)}
    if _QUESTION not in prompt.lower():
        return failure("the rendered prompt does not contain the user's words", evidence, _REMEDY)
    if problem := _missing_generation_prompt(template, prompt) or _lost_history(template):
        return warning(problem, evidence, _REMEDY)
    return passed(f"the prompt has the user's words; a system message is {evidence['system_role']}", evidence)


def _system_role(template: ChatTemplate) -> str:
    """Return what becomes of a system message; many templates have no such role."""
    try:
        text = template.render([{"role": "system", "content": _SYSTEM}, _USER])
    except ChatTemplateError as error:
        return f"refused: {error}"
    return "rendered" if _SYSTEM in text.lower() else "dropped"


def _missing_generation_prompt(template: ChatTemplate, prompt: str) -> str:
    """Return the problem if the template puts text before an answer that it does not put after a question."""
    try:
        without = template.render([_USER], add_generation_prompt=False)
        turn = template.render([_USER, _ASSISTANT], add_generation_prompt=False)
    except ChatTemplateError:
        return ""  # a template for single questions
    before = turn.lower().partition(_ANSWER)[0]
    if prompt != without or not before.startswith(prompt.lower()):
        return ""
    missing = before[len(prompt) :].strip()
    return f"the prompt does not end with the generation prompt {missing!r}" if missing else ""


def _lost_history(template: ChatTemplate) -> str:
    """Return the problem if the second question of a conversation hides the first, or raises."""
    second = {"role": "user", "content": _SYSTEM}
    try:
        text = template.render([_USER, _ASSISTANT, second])
    except ChatTemplateError as error:
        return f"the template raises at the second question of a conversation: {error}"
    return "" if _QUESTION in text.lower() else "the template drops earlier questions of a conversation"
