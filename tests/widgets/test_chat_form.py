"""The chat form: streaming, history, comparison with the base, stop and wake-up."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nbtoolkit.errors import InvalidSettings, RequestRefused
from nbtoolkit.inference import ChatSettings
from nbtoolkit.inference.conversation import Conversation
from nbtoolkit.widgets import ChatForm
from tests.support.fake_endpoint import BASE, FakeEndpoint, refused
from tests.support.wait import wait_until

CANARY = "<img src=x onerror=alert(1)>"


def chat(endpoint: FakeEndpoint, settings: ChatSettings | None = None) -> ChatForm:
    return ChatForm(endpoint, settings)  # type: ignore[arg-type]


def test_ask_uses_the_first_adapter_and_sends_the_history() -> None:
    endpoint = FakeEndpoint({"tone": ["joy", "!"], BASE: ["Well"]})
    form = chat(endpoint, ChatSettings(system="Be short.", temperature=0.5, seed=3))
    assert form.ask("I won!") == "joy!"
    assert form.ask("And now?") == "joy!"
    assert endpoint.requests[1] == {
        "model": "tone",
        "prompt": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "I won!"},
            {"role": "assistant", "content": "joy!"},
            {"role": "user", "content": "And now?"},
        ],
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 3,
    }
    assert "> I won!\ntone: joy!" in repr(form)


def test_ask_rejects_a_model_that_is_not_served() -> None:
    with pytest.raises(InvalidSettings, match="'other'") as caught:
        chat(FakeEndpoint({"tone": ["joy"], BASE: ["Well"]})).ask("hi", "other")
    assert "tone, tiny-base" in caught.value.next_step


def test_ask_raises_the_error_of_the_endpoint() -> None:
    with pytest.raises(RequestRefused, match="too many"):
        chat(FakeEndpoint({"tone": [refused("too many")]})).ask("hi")


def test_each_model_gets_its_own_answers_in_the_history() -> None:
    endpoint = FakeEndpoint({"tone": ["joy"], BASE: ["Well"]})
    conversation = Conversation(endpoint)  # type: ignore[arg-type]
    for prompt in ("one", "two"):
        turn = conversation.send(prompt, [BASE, "tone"], ChatSettings())
        wait_until(lambda turn=turn: not turn.open)
    contents = {request["model"]: request["prompt"][1]["content"] for request in endpoint.requests[2:]}
    assert contents == {"tone": "joy", BASE: "Well"}


def test_a_turn_without_an_answer_is_not_in_the_history() -> None:
    endpoint = FakeEndpoint({"tone": [refused("no")]})
    conversation = Conversation(endpoint)  # type: ignore[arg-type]
    turn = conversation.send("lost", ["tone"], ChatSettings())
    wait_until(lambda: not turn.open)
    conversation.send("again", ["tone"], ChatSettings())
    assert endpoint.requests[1]["prompt"] == [{"role": "user", "content": "again"}]


def test_stop_keeps_the_text_so_far_and_closes_the_request() -> None:
    endpoint = FakeEndpoint({"tone": ["first ", "second"]})
    endpoint.gate.clear()
    conversation = Conversation(endpoint)  # type: ignore[arg-type]
    answer = conversation.send("hi", ["tone"], ChatSettings()).answers["tone"]
    wait_until(lambda: answer.text == "first ")
    conversation.stop()
    assert answer.state == "stopped"
    endpoint.gate.set()
    wait_until(lambda: endpoint.closed == ["tone"])
    assert answer.text == "first "


def test_a_piece_that_arrives_during_stop_does_not_undo_it() -> None:
    class Piece(str):
        """A piece during whose concatenation the user presses Stop."""

        __slots__ = ()

        def __radd__(self, text: str) -> str:
            stopping.start()
            stopping.join(0.2)  # stop() may wait for this piece
            return text + str(self)

    class Endpoint:
        def chat(self, *_: Any, **__: Any) -> Any:
            yield Piece("first ")
            stopping.join(10)
            yield "second"

    conversation = Conversation(Endpoint())  # type: ignore[arg-type]
    stopping = threading.Thread(target=conversation.stop)
    answer = conversation.send("hi", ["tone"], ChatSettings()).answers["tone"]
    wait_until(lambda: not answer.open)
    stopping.join(10)
    assert (answer.state, answer.text) == ("stopped", "first ")


def test_an_unexpected_error_ends_the_answer_and_is_displayed() -> None:
    form = chat(FakeEndpoint({"tone": ["first ", KeyError("choices")]}))
    turn = form.conversation.send("hi", ["tone"], ChatSettings())
    wait_until(lambda: not turn.open)
    assert (turn.answers["tone"].state, turn.answers["tone"].text) == ("failed", "first ")
    assert "choices" in form._repr_html_()


def test_an_error_of_one_model_does_not_stop_the_other() -> None:
    endpoint = FakeEndpoint({"tone": [refused("queue full")], BASE: ["Well"]})
    conversation = Conversation(endpoint)  # type: ignore[arg-type]
    turn = conversation.send("hi", [BASE, "tone"], ChatSettings())
    wait_until(lambda: not turn.open)
    assert (turn.answers[BASE].text, turn.answers["tone"].state) == ("Well", "failed")


def test_send_compares_adapter_and_base() -> None:
    endpoint = FakeEndpoint({"tone": ["joy"], BASE: ["Well"]})
    view = chat(endpoint).view
    assert view.model.value == "tone"
    assert view.send_button.disabled
    view.compare.value = True
    view.prompt.value = "I won!"
    assert not view.send_button.disabled
    view.send_button.click()
    assert view.prompt.value == ""
    wait_until(lambda: "joy" in view._turns.value and "Well" in view._turns.value)
    wait_until(lambda: view._actions.children[0] is view.send_button)


def test_the_stop_button_is_displayed_during_an_answer() -> None:
    endpoint = FakeEndpoint({"tone": ["first ", "second"]})
    endpoint.gate.clear()
    view = chat(endpoint).view
    view.prompt.value = "hi"
    view.send_button.click()
    wait_until(lambda: view._actions.children[0] is view.stop_button)
    view.stop_button.click()
    wait_until(lambda: "stopped" in view._turns.value)
    endpoint.gate.set()
    assert "second" not in view._turns.value


def test_compare_is_displayed_for_adapters_only() -> None:
    view = chat(FakeEndpoint({"tone": ["joy"], BASE: ["Well"]})).view
    assert view.compare.layout.display is None
    view.model.value = BASE
    assert view.compare.layout.display == "none"


def test_clear_deletes_all_turns() -> None:
    form = chat(FakeEndpoint({"tone": ["joy"]}))
    form.ask("hi")
    assert "joy" in form.view._turns.value
    form.view.clear_button.click()
    wait_until(lambda: form.view._turns.value == "")
    assert form.conversation.turns == []


def test_reload_models_after_the_endpoint_was_not_ready() -> None:
    class Waking(FakeEndpoint):
        awake = False

        def models(self) -> Any:
            if not self.awake:
                raise refused("the server is loading")
            return super().models()

    endpoint = Waking({"tone": ["joy"]})
    view = chat(endpoint).view
    assert "the server is loading" in view._message.value
    endpoint.awake = True
    view.reload_button.click()
    assert view.model.value == "tone"
    assert view._message.value == ""


def test_an_invalid_sampling_setting_disables_send() -> None:
    view = chat(FakeEndpoint({"tone": ["joy"]})).view
    view.prompt.value = "hi"
    view._sampling["temperature"].widget.value = "hot"
    assert view.send_button.disabled
    assert "wanted a number" in view._sampling["temperature"].row.children[1].value


def test_prompts_answers_names_and_errors_are_escaped() -> None:
    endpoint = FakeEndpoint({CANARY: [CANARY, refused(CANARY)]})
    form = chat(endpoint)
    turn = form.conversation.send(CANARY, [CANARY], ChatSettings())
    wait_until(lambda: not turn.open)
    wait_until(lambda: form.view._turns.value.count("&lt;img") >= 4)
    for html in (form.view._turns.value, form._repr_html_()):
        assert "<img" not in html
