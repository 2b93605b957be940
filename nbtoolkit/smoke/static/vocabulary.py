"""A5: tokens that the model has no embedding for, and a tokenizer or template other than the base's."""

from __future__ import annotations

import json
from typing import Any

from nbtoolkit.errors import BrokenFile
from nbtoolkit.models.base_model import Base
from nbtoolkit.releases.tokenizer import TokenizerFacts, read_tokenizer_facts
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, abbreviate, check, failure, passed, warning
from nbtoolkit.utils.json_file import read_object

_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_HEADS = ("lm_head.weight", "embed_out.weight")
_RESIZE = (
    "resize the base before the training (model.resize_token_embeddings(len(tokenizer))) and deploy that "
    "base; or remove the tokens from the adapter's tokenizer"
)


@check("A5", "static", "vocabulary, template")
def vocabulary(context: SmokeContext) -> CheckOutcome:
    """Require an embedding row for every token of a request; name what differs from the base."""
    rows = embedding_rows(context.base)
    if wrong := _saved_rows(context, rows):
        return failure(
            f"the adapter saved {abbreviate(wrong)}, and no engine resizes the base's {rows}",
            {"rows": rows, "saved": wrong},
            "merge it into the resized base (merge_and_unload) and deploy the result as a base model",
        )
    try:
        base, own = read_tokenizer_facts(context.base.path), read_tokenizer_facts(context.folder)
    except BrokenFile as error:
        return failure(error.message.rstrip("."), remedy=error.next_step)
    differs = own.exists and not own.is_equivalent_to(base)
    evidence: dict[str, Any] = {
        "rows": rows,
        "own_tokenizer": own.exists,
        "tokenizer_differs": differs,
        "template_differs": own.template is not None and own.template != base.template,
    }
    template = own.template if own.template is not None else base.template
    if differs and rows:
        tokens = _tokens_from(context, rows)
        reachable = {
            text: use for text in tokens if (use := _use(text, tokens[text], own, template, context))
        }
        evidence |= {
            "without_row": dict(list(tokens.items())[:20]),
            "reachable": dict(list(reachable.items())[:20]),
        }
        if reachable:
            uses = [f"{text!r} ({use})" for text, use in reachable.items()]
            return failure(
                f"tokens without embedding (the base has {rows} rows): {abbreviate(uses, 3)}",
                evidence,
                _RESIZE,
            )
        if tokens:
            return warning(
                f"no embedding (the base has {rows} rows) for {abbreviate([*map(repr, tokens)], 3)}: "
                "a request with it gets status 400",
                evidence,
                _RESIZE,
            )
    changed = [
        name
        for name, key in (("tokenizer", "tokenizer_differs"), ("chat template", "template_differs"))
        if evidence[key]
    ]
    if changed:
        return warning(
            f"its {' and '.join(changed)} differ from the base's; the release serves the adapter's",
            evidence,
            "nothing to do if the training used them; else delete them from the adapter's folder",
        )
    return passed("the base's tokenizer and template" if not own.exists else "as the base's", evidence)


def embedding_rows(base: Base) -> int:
    """Return the number of rows of the base's input embedding; 0 if it is not known."""
    shapes = [info.shape for name, info in base.tensors.items() if name.endswith(_EMBEDDINGS)]
    text = base.config.get("text_config")
    config = text if isinstance(text, dict) else base.config
    return max((shape[0] for shape in shapes if len(shape) == 2), default=config.get("vocab_size") or 0)


def _saved_rows(context: SmokeContext, rows: int) -> list[str]:
    """Return the saved embeddings, heads and token indices that do not fit the base's rows."""
    wrong = [
        f"{key} with {info.shape[0]} rows"
        for key, info in context.adapter.tensors.items()
        if rows and key.endswith(_EMBEDDINGS + _HEADS) and len(info.shape) == 2 and info.shape[0] != rows
    ]
    indices = context.adapter.config.get("trainable_token_indices") or []
    lists = indices.values() if isinstance(indices, dict) else [indices]
    highest = max((index for one in lists for index in one if type(index) is int), default=-1)
    return [*wrong, *([f"a trained row for token {highest}"] if rows and highest >= rows else [])]


def _tokens_from(context: SmokeContext, rows: int) -> dict[str, bool]:
    """Return the tokens with an id from ``rows`` on, and whether each is a special token."""
    folder = context.folder
    content, config, added = (
        read_object(path) if (path := folder / name).is_file() else {}
        for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json")
    )
    model = content.get("model")
    vocabulary: Any = model.get("vocab") if isinstance(model, dict) else None
    words: dict[str, Any] = {**(vocabulary if isinstance(vocabulary, dict) else {}), **added}
    found = {text: False for text, index in words.items() if type(index) is int and index >= rows}
    decoder: Any = config.get("added_tokens_decoder")
    listed: list[Any] = list(content.get("added_tokens") or ())
    if isinstance(decoder, dict):
        listed += [{"id": int(index), **one} for index, one in decoder.items() if str(index).isdigit()]
    for one in listed:
        if isinstance(one, dict) and type(one.get("id")) is int and one["id"] >= rows:
            found[str(one.get("content"))] = one.get("special") is True
    return found


def _use(text: str, special: bool, own: TokenizerFacts, template: Any, context: SmokeContext) -> str:
    """Return how a request can contain a token, an empty text if only a user who types its name can."""
    if not special:
        return "plain text of users"
    if text in json.dumps(template, ensure_ascii=False):
        return "chat template"
    if names := [name for name, value in own.special.items() if value == text]:
        return names[0]
    return "your prompts" if any(text in prompt for prompt in context.prompts) else ""
