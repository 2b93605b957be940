"""The detokenizer emits whole characters, and no part of a stop string."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from nbtoolkit.serving.engines.transformers.detokenizer import (
    Detokenizer,
    StopFilter,
    TokenNames,
)
from nbtoolkit.serving.engines.transformers.sequence import SampledToken, SamplingParams, Sequence, TokenEvent
from tests.support.tiny_models import END_OF_TEXT, END_OF_TURN, tiny_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("text") / "base", layers=1)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.from_file(str(base / "tokenizer.json"))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("text", ["🙂", "世界你好", "a🙂世 b", "é", "👩‍👩‍👧", "the cat and the dog"])
def test_a_character_of_several_tokens_is_emitted_whole(tokenizer: Tokenizer, text: str) -> None:
    tokens = ids(tokenizer, text)
    stream = Detokenizer(tokenizer, ids(tokenizer, "say "))
    pieces = [stream.step(token) for token in tokens]
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert stream.finish() == ""


def test_an_incomplete_character_at_the_end_is_a_replacement_character(tokenizer: Tokenizer) -> None:
    stream = Detokenizer(tokenizer, [])
    tokens = ids(tokenizer, "a🙂")
    assert "".join(stream.step(token) for token in tokens[:-1]) == "a"
    assert stream.finish() == "\ufffd"


def test_invalid_utf8_bytes_do_not_stop_the_stream(tokenizer: Tokenizer) -> None:
    stream = Detokenizer(tokenizer, [])
    (byte,) = ids(tokenizer, "世")[:1]
    emitted = "".join(stream.step(token) for token in [byte, byte, byte, *ids(tokenizer, "ok 世")])
    assert emitted.endswith("ok 世")


@pytest.mark.parametrize(
    ("pieces", "stops", "emitted", "stopped"),
    [
        (["one E", "N", "D two"], ["END"], "one ", True),
        (["one E", "N", "E two"], ["END"], "one ENE two", False),
        (["a\n", "\nb"], ["\n\n"], "a", True),
        (["abab", "abc"], ["ababc"], "ab", True),
        (["xEND", "y"], ["END", "xE"], "", True),
        (["x世", "界y"], ["世界"], "x", True),
        (["EN"], ["END"], "EN", False),
        (["text"], [""], "text", False),
    ],
)
def test_a_stop_string_across_several_pieces_is_not_emitted(
    pieces: list[str], stops: list[str], emitted: str, stopped: bool
) -> None:
    stream = StopFilter(stops)
    out = ""
    for piece in pieces:
        out += stream.push(piece)
        if stream.stopped:
            break
    assert stream.stopped is stopped
    assert out + stream.finish() == emitted


def answer(tokenizer: Tokenizer, tokens: list[int], **settings: Any) -> list[TokenEvent]:
    """Feed ``tokens`` to a sequence as if the model had chosen them."""
    events: list[TokenEvent] = []
    sequence = Sequence(
        [1],
        adapter=None,
        sampling=SamplingParams(temperature=0, logprobs=0),
        tokenizer=tokenizer,
        deliver=events.append,
        **{"max_tokens": 50, "stop_ids": frozenset(), "stops": [], **settings},
    )
    for token in tokens:
        if sequence.append(SampledToken(token)):
            break
    return events


def test_a_stop_string_counts_in_the_usage_and_is_not_in_the_logprobs(
    tokenizer: Tokenizer,
) -> None:
    events = answer(tokenizer, ids(tokenizer, "xy END z"), stops=["END"])
    assert "".join(event.text for event in events) == "xy "
    assert events[-1].finish == "stop"
    assert events[-1].tokens == len(ids(tokenizer, "xy END"))
    with_logprobs = [logprob.choice.token for event in events for logprob in event.logprobs]
    assert tokenizer.decode(with_logprobs) == "xy "


def test_a_stop_string_in_the_last_allowed_token_is_a_stop(tokenizer: Tokenizer) -> None:
    tokens = ids(tokenizer, "xyEND")
    events = answer(tokenizer, tokens, stops=["END"], max_tokens=len(tokens))
    assert ("".join(event.text for event in events), events[-1].finish) == ("xy", "stop")


def test_held_back_text_is_emitted_at_the_end(tokenizer: Tokenizer) -> None:
    (end,) = ids(tokenizer, END_OF_TEXT)
    for tokens, settings, reason in (
        (ids(tokenizer, "xyEN"), {"max_tokens": 4}, "length"),
        ([*ids(tokenizer, "xyEN"), end], {"stop_ids": frozenset({end})}, "stop"),
    ):
        events = answer(tokenizer, tokens, stops=["END"], **settings)
        assert ("".join(event.text for event in events), events[-1].finish) == ("xyEN", reason)


def test_logprob_offsets_point_into_the_text(tokenizer: Tokenizer) -> None:
    events = answer(tokenizer, ids(tokenizer, "the cat"), max_tokens=5)
    text = "".join(event.text for event in events)
    for event in events:
        for logprob in event.logprobs:
            piece = tokenizer.decode([logprob.choice.token])
            assert text[logprob.offset : logprob.offset + len(piece)] == piece


def test_tokens_are_named_by_text_bytes_or_id(tokenizer: Tokenizer) -> None:
    names = TokenNames(tokenizer)
    tokens = ids(tokenizer, "世")
    assert b"".join(names.raw(token) for token in tokens) == "世".encode()
    assert names.text(tokens[0]) == "\ufffd"
    assert names.text(tokens[0], as_id=True) == f"token_id:{tokens[0]}"
    (the,) = ids(tokenizer, " the")
    assert names.text(the) == " the"
    assert names.text(ids(tokenizer, END_OF_TURN)[0]) == END_OF_TURN
