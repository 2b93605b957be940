"""A golden prompt from an answer of the chat page."""

from __future__ import annotations

import json

import pytest

from nbtoolkit.golden.prompt_parser import parse_prompt
from nbtoolkit.serving.gateway.auth import ApiKeyAuth
from nbtoolkit.serving.gateway.ui_golden import golden_line, line_problem

ASKED = {"role": "user", "content": "I won!"}
ANSWER = {"role": "assistant", "content": " joy\n"}
KEY = ApiKeyAuth("a-server-key")


def test_the_line_is_a_golden_prompt() -> None:
    line = golden_line("Be short.", 9, [ASKED, ANSWER])
    assert json.loads(line) == {
        "prompt": "I won!",
        "system": "Be short.",
        "max_tokens": 9,
        "must": [{"contains": "joy"}],
    }
    later = parse_prompt(json.loads(golden_line("Be short.", 9, [ASKED, ANSWER, ASKED, ANSWER])))
    assert [message.role for message in later.messages] == ["system", "user", "assistant", "user"]


def test_without_an_answer_there_is_no_line() -> None:
    assert golden_line("", 9, []) == ""
    assert golden_line("", 9, [ASKED]) == ""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a golden prompt"),
        ('{"prompt": "p"}', "not a golden prompt"),
        ('{"prompt": "Bearer a-server-key", "must": [{"exact": "x"}]}', "the key of this server"),
        ('{"prompt": "key=a-server-key", "must": [{"exact": "x"}]}', "the key of this server"),
        ('{"prompt": "p", "must": [{"exact": "x"}]}', ""),
    ],
)
def test_an_edited_line_is_checked(line: str, problem: str) -> None:
    found = line_problem(line, KEY.accept)
    assert problem in found
    assert bool(problem) == bool(found)
    assert "a-server-key" not in found
