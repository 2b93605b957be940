"""The tokens that end an answer, shared by engine and smoke test."""

from __future__ import annotations

from typing import Any

from .chat_template import ChatTemplate, ChatTemplateError

_MARK = "nbtoolkitmark"


def stop_token_ids(model: Any, tokenizer: Any, template: ChatTemplate | None) -> frozenset[int]:
    """Return every token id that ends an answer of a loaded transformers model.

    As in ``generate``, the EOS ids are those of ``model.generation_config``, which transformers reads from
    ``generation_config.json`` or, if the file is missing, from ``config.json``. Added to them are the
    tokenizer's EOS token and the template's end of turn.
    """
    generation = getattr(model.generation_config, "eos_token_id", None)
    config = getattr(model.config.get_text_config(decoder=True), "eos_token_id", None)
    ids = {tokenizer.eos_token_id, end_of_turn(template)}
    return frozenset((*eos_token_ids(generation, config), *(one for one in ids if one is not None)))


def eos_token_ids(*declared: object) -> tuple[int, ...]:
    """Return the ids of the first ``eos_token_id`` that is set: a number or a list of numbers."""
    for value in declared:
        ids = [one for one in (value if isinstance(value, list) else [value]) if type(one) is int]
        if ids:
            return tuple(dict.fromkeys(ids))
    return ()


def end_of_turn(template: ChatTemplate | None) -> int | None:
    """Return the special token that the template puts after an assistant's answer, or None.

    The template is rendered to find it, because no file names it: ``<|end|>`` of Phi-3, ``<end_of_turn>`` of
    Gemma.
    """
    if template is None:
        return None
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
    try:
        text = template.render(conversation, add_generation_prompt=False)
    except ChatTemplateError:
        return None
    _, found, rest = text.rpartition(_MARK)
    tokenizer = template.tokenizer
    ids = tokenizer.encode(rest.lstrip(), add_special_tokens=False) if found else []
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None
