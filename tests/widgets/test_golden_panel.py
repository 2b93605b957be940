"""Turn an answer of the chat form into a golden prompt: shown, edited, confirmed, without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.golden.golden_file import read_golden
from nbtoolkit.inference import ChatSettings
from nbtoolkit.widgets import ChatForm
from nbtoolkit.workspace import Workspace
from tests.support.fake_endpoint import BASE, FakeEndpoint

KEY = "the-endpoints-key"


@pytest.fixture
def form(workspace_root: Path) -> ChatForm:
    """A chat with one answer, in a workspace with an adapter folder of the model's name."""
    folder = workspace_root / "adapters" / "tone"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    endpoint = FakeEndpoint({"tone": ["joy", "!"], BASE: ["Well"]})
    endpoint.key = SecretStr(KEY)
    chat = ChatForm(endpoint, ChatSettings(system="Be short."), workspace=Workspace(workspace_root))  # type: ignore[arg-type]
    chat.ask("I won!")
    return chat


def test_the_call_returns_the_answer_as_a_line_and_appends_it(form: ChatForm, workspace_root: Path) -> None:
    line = form.golden_line()
    assert line == {
        "prompt": "I won!",
        "system": "Be short.",
        "max_tokens": 256,
        "must": [{"contains": "joy!"}],
    }
    form.add_golden({**line, "must": [{"contains": "joy"}]}, "adapters/tone")
    (prompt,) = read_golden(workspace_root / "adapters/tone/golden.jsonl")
    assert (prompt.question, prompt.must[0].value) == ("I won!", "joy")


def test_a_later_turn_has_the_history(form: ChatForm) -> None:
    form.ask("And now?")
    roles = [message["role"] for message in form.golden_line()["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_the_button_shows_the_answer_and_adds_it_once_it_is_confirmed(
    form: ChatForm, workspace_root: Path
) -> None:
    panel = form.view.golden
    file = workspace_root / "adapters/tone/golden.jsonl"
    panel.open_button.click()
    assert panel._form.layout.display is None
    assert (panel.kind.value, panel.value.value) == ("contains", "joy!")
    assert panel.file.value == "adapters/tone/golden.jsonl"
    assert "I won!" in panel.preview.value
    panel.kind.value, panel.level.value, panel.value.value = "not_contains", "nice", "<b>sad"
    assert "<b>" not in panel.preview.value
    assert not file.exists()
    panel.add_button.click()
    (prompt,) = read_golden(file)
    assert [check.to_json() for check in prompt.nice] == [{"not_contains": "<b>sad"}]
    assert prompt.must == ()
    assert panel._form.layout.display == "none"
    assert "adapters/tone/golden.jsonl" in panel.message.value


def test_cancel_writes_nothing(form: ChatForm, workspace_root: Path) -> None:
    panel = form.view.golden
    panel.open_button.click()
    panel.cancel_button.click()
    assert not (workspace_root / "adapters/tone/golden.jsonl").exists()


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [("regex", "(x", "not valid"), ("json_schema", "{", "not JSON"), ("number", "x", "a finite number")],
)
def test_an_invalid_check_cannot_be_added(form: ChatForm, kind: str, value: str, problem: str) -> None:
    panel = form.view.golden
    panel.open_button.click()
    panel.value.value, panel.kind.value = value, kind
    assert panel.add_button.disabled
    assert problem in panel.preview.value
    panel.kind.value, panel.value.value = "number", "42"
    assert not panel.add_button.disabled


def test_the_key_is_not_written(form: ChatForm, workspace_root: Path) -> None:
    panel = form.view.golden
    panel.open_button.click()
    panel.value.value = f"Bearer {KEY}"
    panel.add_button.click()
    assert "the key of the endpoint" in panel.message.value
    assert KEY not in panel.message.value
    assert not (workspace_root / "adapters/tone/golden.jsonl").exists()


def test_without_an_answer_there_is_nothing_to_add() -> None:
    chat = ChatForm(FakeEndpoint({"tone": ["joy"]}))  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="no complete answer"):
        chat.golden_line()
    chat.view.golden.open_button.click()
    assert "no complete answer" in chat.view.golden.message.value
