"""The tokens that end an answer are those at which transformers stops, and the template's end of turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.serving.chat_template import ChatTemplate
from nbtoolkit.serving.stop_tokens import end_of_turn, eos_token_ids, stop_token_ids
from tests.support.tiny_models import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, tiny_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_base(tmp_path / "base", layers=1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(tiny_base(tmp_path_factory.mktemp("stop-tokens") / "base", layers=1))


def load_tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def stop_tokens(base: Path, template: str | None = None) -> set[int]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = load_tokenizer(base)
    return set(stop_token_ids(model, tokenizer, chat_template(tokenizer, template)))


def chat_template(tokenizer: Any, template: str | None) -> ChatTemplate | None:
    return ChatTemplate(tokenizer, {"default": template}) if template else None


def test_generation_config_decides_the_eos_tokens(base: Path, tokenizer: Any) -> None:
    edit_json(base / "generation_config.json", lambda content: content.update(eos_token_id=[7, 9]))
    edit_json(base / "config.json", lambda content: content.update(eos_token_id=11))
    assert stop_tokens(base) == {7, 9, tokenizer.eos_token_id}
    edit_json(base / "generation_config.json", lambda content: content.update(eos_token_id=7))
    assert stop_tokens(base) == {7, tokenizer.eos_token_id}


@pytest.mark.parametrize("declared", [11, [11, 12]])
def test_config_decides_if_there_is_no_generation_config(base: Path, tokenizer: Any, declared: Any) -> None:
    (base / "generation_config.json").unlink()
    edit_json(base / "config.json", lambda content: content.update(eos_token_id=declared))
    numbers = declared if isinstance(declared, list) else [declared]
    assert stop_tokens(base) == {*numbers, tokenizer.eos_token_id}


def test_config_decides_if_the_generation_config_names_no_eos_token(base: Path, tokenizer: Any) -> None:
    edit_json(base / "generation_config.json", lambda content: content.pop("eos_token_id"))
    edit_json(base / "config.json", lambda content: content.update(eos_token_id=11))
    assert stop_tokens(base) == {11, tokenizer.eos_token_id}


def test_end_of_turn_is_a_stop_token(base: Path, tokenizer: Any) -> None:
    assert stop_tokens(base, CHAT_TEMPLATE) == set(
        tokenizer.convert_tokens_to_ids([END_OF_TEXT, END_OF_TURN])
    )


@pytest.mark.parametrize(
    ("template", "token"),
    [
        (CHAT_TEMPLATE, END_OF_TURN),
        ("{% for m in messages %}{{ m.content }}<|im_end|>\n{% endfor %}", END_OF_TURN),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", None),
        ("{% for m in messages %}{{ m.content }} and more{% endfor %}", None),
        ("{{ messages[0].content }}<|im_end|>", None),
        ("{{ raise_exception('no assistant here') }}", None),
        (None, None),
    ],
)
def test_end_of_turn_is_the_special_token_after_an_answer(
    tokenizer: Any, template: str | None, token: str | None
) -> None:
    found = end_of_turn(chat_template(tokenizer, template))
    assert found == (token and tokenizer.convert_tokens_to_ids(token))


def test_eos_token_id_is_a_number_or_a_list() -> None:
    assert eos_token_ids(None, 3) == (3,)
    assert eos_token_ids([7, 9, 7], 3) == (7, 9)
    assert eos_token_ids([], None) == ()
    assert eos_token_ids(True) == ()
