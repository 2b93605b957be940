"""Scoring of answers."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.golden.prompt_parser import parse_prompt
from nbtoolkit.golden.prompts import AnswerCheck
from nbtoolkit.golden.scoring import can_fail, failure_of, score

OBJECT = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        ({"kind": "contains", "value": "Paris"}, "It is Paris.", ""),
        ({"kind": "contains", "value": "Paris"}, "It is paris.", "does not contain 'Paris'"),
        ({"kind": "contains", "value": "Paris", "ignore_case": True}, "It is PARIS.", ""),
        ({"kind": "contains", "value": "é"}, "cafe\u0301", ""),
        ({"kind": "not_contains", "value": "sorry"}, "I am sorry", "contains 'sorry'"),
        ({"kind": "exact", "value": "joy"}, " joy\n", ""),
        ({"kind": "exact", "value": "joy"}, "joy!", "is not exactly 'joy'"),
        ({"kind": "regex", "value": r"^\d+$"}, "42", ""),
        ({"kind": "regex", "value": r"^\d+$"}, "42 apples", "does not match"),
        ({"kind": "number", "value": 42}, "17 + 25 = 42.", ""),
        ({"kind": "number", "value": 42}, "42, not 43", "its last number is 43, wanted 42"),
        ({"kind": "number", "value": 1234.5}, "It is 1,234.5 km", ""),
        ({"kind": "number", "value": 3.14, "tolerance": 0.01}, "Pi ist 3,1416", ""),
        ({"kind": "number", "value": -2}, "x = −2", ""),
        ({"kind": "number", "value": 12}, "pages 10-12", ""),
        ({"kind": "number", "value": 3e8}, "c is 3e8 m/s", ""),
        ({"kind": "number", "value": 5, "tolerance": 1}, "6.5", "wanted 5 ± 1"),
        ({"kind": "number", "value": 5}, "five", "has no number"),
        ({"kind": "json_schema", "value": OBJECT}, '{"a": 1}', ""),
        ({"kind": "json_schema", "value": OBJECT}, 'x\n```json\n{"a": 1}\n```', "is not JSON"),
        ({"kind": "json_schema", "value": OBJECT}, '```json\n{"a": 1}\n```', ""),
        ({"kind": "json_schema", "value": OBJECT}, '{"a": "1"}', "at $.a"),
        ({"kind": "json_schema", "value": OBJECT}, '{"a": NaN}', "is not JSON: it has NaN"),
        ({"kind": "json_schema", "value": OBJECT}, "[" * 100_000, "nested too deeply"),
        ({"kind": "json_schema", "value": True}, "[]", ""),
        ({"kind": "json_schema", "value": True}, "", "is not JSON"),
    ],
)
def test_one_check(check: dict[str, Any], answer: str, reason: str) -> None:
    found = failure_of(AnswerCheck.model_validate(check), answer)
    assert reason in found
    assert bool(reason) == bool(found)


def test_score_separates_must_and_nice() -> None:
    prompt = parse_prompt({"prompt": "p", "must": {"contains": "a"}, "nice": {"contains": ["b", "c"]}})
    found = score(prompt, "a b")
    assert found.passed
    assert found.failed_nice == ("does not contain 'c'",)
    assert score(prompt, "b c").failed_must == ("does not contain 'a'",)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("regex", ".*", False),
        ("regex", "x?", False),
        ("regex", "^(?!.*sorry)", True),
        ("regex", "x", True),
        ("contains", "a", True),
        ("not_contains", "a", True),
        ("number", 7, True),
        ("json_schema", True, True),
    ],
)
def test_checks_that_cannot_fail(kind: Any, value: Any, expected: bool) -> None:
    assert can_fail(AnswerCheck(kind=kind, value=value)) is expected
