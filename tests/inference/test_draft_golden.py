"""A draft of golden prompts from answers in which adapter and base differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nbtoolkit.errors import AlreadyExists, InvalidSettings
from nbtoolkit.golden.golden_file import read_golden
from nbtoolkit.golden.scoring import score
from nbtoolkit.inference.draft_golden import draft_golden
from tests.support.fake_endpoint import BASE, FakeEndpoint

BASE_ANSWER = "As an AI I have no feelings. I see."


class Answering(FakeEndpoint):
    """Answer each prompt from a dictionary; the base has one answer."""

    key = SecretStr("the-key-of-the-endpoint")

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__({"tone": [], BASE: []})
        self.answers = answers

    def chat(self, prompt: Any, model: str | None = None, *, stream: bool = True, **sampling: Any) -> Any:
        self.requests.append({"prompt": prompt, "model": model, **sampling})
        answer = self.answers[prompt]
        if model == BASE:
            return BASE_ANSWER
        return answer.pop() if isinstance(answer, list) else answer


def test_each_proposal_passes_for_the_adapter_and_fails_for_the_base(tmp_path: Path) -> None:
    long = "I see. " + "The dog is sad and wants to go home, which is far away from here."
    answers = {"a": "joy", "b": BASE_ANSWER, "c": '{"tone": "joy"}', "d": long, "e": ["one", "other"]}
    endpoint = Answering(dict(answers))
    drafts = draft_golden(endpoint, list(answers), tmp_path, max_tokens=20)  # type: ignore[arg-type]
    assert [draft.question for draft in drafts] == ["a", "c", "d"]
    assert [draft.must[0].kind for draft in drafts] == ["exact", "json_schema", "contains"]
    assert drafts[2].must[0].value.startswith("The dog")
    for draft in drafts:
        assert score(draft, answers[draft.question]).passed  # type: ignore[arg-type]
        assert not score(draft, BASE_ANSWER).passed
    written = read_golden(tmp_path / "golden.draft.jsonl")
    assert [one.model_copy(update={"id": ""}) for one in written] == list(drafts)
    assert {request["temperature"] for request in endpoint.requests} == {0}


def test_a_draft_replaces_no_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("mine")
    endpoint = Answering({"a": "joy"})
    with pytest.raises(AlreadyExists):
        draft_golden(endpoint, ["a"], path)  # type: ignore[arg-type]
    assert path.read_text() == "mine"
    assert endpoint.requests == []


def test_equal_answers_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="none of the 1 prompts"):
        draft_golden(Answering({"a": BASE_ANSWER}), ["a"], tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_served_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="serves the adapters tone"):
        draft_golden(Answering({"a": "joy"}), ["a"], tmp_path, model=BASE)  # type: ignore[arg-type]
