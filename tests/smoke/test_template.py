"""G3 on templates and answers that have the defect; G4's repeated phrase."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.serving.chat_template import ChatTemplate, named_templates
from nbtoolkit.smoke.check import CheckOutcome, passed
from tests.support.tiny_models import CHAT_TEMPLATE, write_tokenizer

pytest.importorskip("torch")

TURN = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
PARTS = TURN + "{% for p in m.content %}{{ p.text }}{% endfor %}<|im_end|>{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
HEALTHY = {
    "chatml": CHAT_TEMPLATE,
    "named": [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": "TOOLS"}],
    "parts": PARTS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "no system role": NO_SYSTEM + CHAT_TEMPLATE,
    "no generation prompt, as Mistral": MISTRAL,
}
SICK = {
    "none": (None, "fail", "no chat template"),
    "no default": ({"rag": "a", "tool_use": "b"}, "fail", "none is named 'default'"),
    "raises": ("{{ raise_exception('not today') }}", "fail", "raises: not today"),
    "syntax": ("{% for %}", "fail", "raises"),
    "loses the words": (
        TURN + "{% endfor %}<|im_start|>assistant",
        "fail",
        "does not contain the user's words",
    ),
    "no generation prompt": (
        TURN + "{{ m.content }}<|im_end|>{% endfor %}",
        "warn",
        "does not end with the generation prompt '<|im_start|>assistant'",
    ),
    "one question": ("<|im_start|>{{ messages[-1].content }}<|im_end|>", "warn", "drops earlier questions"),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("smoke-template")
    write_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def check(tokenizer: Any, templates: object) -> CheckOutcome:
    from nbtoolkit.smoke.model_level.template import check_template

    named = named_templates(templates)
    return check_template(ChatTemplate(tokenizer, named) if named else None)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_template_passes(tokenizer: Any, name: str) -> None:
    found = check(tokenizer, HEALTHY[name])
    assert (found.verdict, found.remedy) == ("pass", "")


@pytest.mark.parametrize("name", SICK)
def test_sick_template_is_named_with_a_remedy(tokenizer: Any, name: str) -> None:
    templates, verdict, summary = SICK[name]
    found = check(tokenizer, templates)
    assert (found.verdict, summary in found.summary) == (verdict, True), found.summary
    assert "chat_template.jinja" in found.remedy


def test_what_becomes_of_a_system_message_is_told(tokenizer: Any) -> None:
    told = {name: check(tokenizer, HEALTHY[name]).evidence["system_role"] for name in HEALTHY}
    assert told["chatml"] == told["parts"] == "rendered"
    assert told["no system role"] == "refused: no system role"
    assert told["no generation prompt, as Mistral"] == "dropped"


@pytest.mark.parametrize(
    ("base", "adapter", "verdict"),
    [
        (8, 8, "pass"),
        (8, 1, "pass"),
        (0, 0, "pass"),
        (0, 8, "pass"),
        (4, 0, "fail"),
        (2, 0, "warn"),
        (1, 0, "pass"),
    ],
)
def test_adapter_that_never_stops_fails_where_the_base_stops(base: int, adapter: int, verdict: str) -> None:
    from nbtoolkit.smoke.model_level.template import check_stops

    def answers(ended: int) -> list[list[int]]:
        return [[1] * 5] * ended + [[1] * 64] * (8 - ended)

    found = check_stops(passed("fine"), answers(base), answers(adapter), 64)
    assert found.verdict == verdict
    assert found.evidence["ended"] == {"base": base, "adapter": adapter}


@pytest.mark.parametrize(
    ("answer", "length"),
    [
        ([*range(10), *[1, 2, 3] * 18], 3),
        ([*range(4), *list(range(20)) * 3], 20),
        ([*range(40), *[1, 2, 3] * 8], 0),
        (list(range(64)), 0),
        ([*[1, 2, 3] * 18, *range(10)], 0),
    ],
)
def test_phrase_repeated_to_the_end_is_found(answer: list[int], length: int) -> None:
    from nbtoolkit.smoke.model_level.degeneration import repeated_phrase

    assert repeated_phrase(answer, 16) == length
