"""One implementation renders conversations for the engine and the smoke test."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.serving.chat_template import ChatTemplate, ChatTemplateError, named_templates
from tests.support.tiny_models import CHAT_TEMPLATE, write_tokenizer

TEXT_OF_PARTS = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
PARTS = "{% for m in messages %}<|im_start|>{{ m.role }}: " + TEXT_OF_PARTS + "{% endfor %}"
USER = {"role": "user", "content": "Hello, you!"}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chat-template")
    write_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def template(tokenizer: Any, text: str) -> ChatTemplate:
    return ChatTemplate(tokenizer, {"default": text})


def test_named_templates_are_a_text_a_dictionary_or_a_list() -> None:
    named = {"default": "a", "rag": "b"}
    assert named_templates("a") == {"default": "a"}
    assert named_templates(named) == named
    assert named_templates([{"name": name, "template": text} for name, text in named.items()]) == named
    assert named_templates(None) == named_templates([{"name": "x"}, 3]) == {}


def test_the_tokenizers_template_is_used_unless_one_is_given(tokenizer: Any) -> None:
    own, given = ChatTemplate.of(tokenizer), ChatTemplate.of(tokenizer, {"default": "given", "rag": "other"})
    assert own
    assert own.templates == {"default": CHAT_TEMPLATE}
    assert given
    assert given.render([USER]) == "given"


def test_tools_select_the_template_for_tools(tokenizer: Any) -> None:
    several = ChatTemplate(tokenizer, {"default": "plain", "tool_use": "{{ tools[0].name }}"})
    assert several.render([USER]) == "plain"
    assert several.render([USER], tools=[{"name": "clock"}]) == "clock"


def test_several_templates_without_a_default_raise_with_their_names(tokenizer: Any) -> None:
    with pytest.raises(ChatTemplateError, match=r"\(rag, tool_use\)"):
        ChatTemplate(tokenizer, {"tool_use": "a", "rag": "b"}).render([USER])
    assert ChatTemplate(tokenizer, {"chatml": "the only one"}).render([USER]) == "the only one"


def test_content_is_passed_as_parts_if_the_template_needs_it(tokenizer: Any) -> None:
    rendered = template(tokenizer, PARTS).render([SYSTEM, USER])
    assert rendered == "<|im_start|>system: Be kind.<|im_start|>user: Hello, you!"


def test_content_is_passed_as_parts_only_in_the_roles_that_need_it(tokenizer: Any) -> None:
    mixed = (
        "{% for m in messages %}{% if m.role == 'user' %}"
        + TEXT_OF_PARTS
        + "{% else %}{{ m.content }}{% endif %};{% endfor %}"
    )
    assert template(tokenizer, mixed).render([SYSTEM, USER]) == "Be kind.;Hello, you!;"


def test_content_stays_a_text_if_the_template_takes_both_or_shows_neither(tokenizer: Any) -> None:
    both = "{% for m in messages %}{{ m.content if m.content is string else 'parts' }}{% endfor %}"
    assert template(tokenizer, both).render([USER]) == "Hello, you!"
    assert template(tokenizer, "{{ messages | length }}").render([USER]) == "1"


def test_a_list_that_is_printed_is_not_a_rendering_of_parts(tokenizer: Any) -> None:
    odd = "{% for m in messages %}{{ 'none' if m.content is string else m.content }}{% endfor %}"
    assert template(tokenizer, odd).render([USER]) == "none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[0].content + 1 }}", "can only concatenate str"),
        ("{% for %}", "Expected"),
        ("{{ 1 // 0 }}", "division"),
    ],
)
def test_whatever_a_template_raises_is_its_own_message(tokenizer: Any, text: str, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        template(tokenizer, text).render([USER])
