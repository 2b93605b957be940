"""Tokenize requests and check their length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...chat_template import ChatTemplateError
from ...openai_format import ApiError
from .openai_schema import ChatRequest, CompletionRequest

if TYPE_CHECKING:
    from .model_loader import LoadedModel


def chat_prompt(loaded: LoadedModel, request: ChatRequest) -> list[int]:
    """Render the conversation with the template in force and return its tokens."""
    if not loaded.chat_template:
        raise ApiError(
            "This model has no chat template; use /v1/completions, or deploy with a chat template.",
            param="messages",
            code="no_chat_template",
        )
    try:
        text = loaded.chat_template.render([message.plain() for message in request.messages])
    except ChatTemplateError as error:
        raise ApiError(
            f"The model's chat template refuses this conversation: {error}", param="messages"
        ) from error
    # The template contains special tokens itself; a second beginning-of-text would change the answers.
    ids: list[int] = loaded.backend.encode(text, add_special_tokens=False).ids
    return _checked(ids, loaded, "messages")


def completion_prompts(loaded: LoadedModel, request: CompletionRequest) -> list[list[int]]:
    """Return the tokens of every prompt."""
    prompts = request.prompts
    if not prompts:
        raise ApiError("`prompt` is empty.", param="prompt")
    encoded: list[list[int]] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            ids = loaded.tokenizer(prompt)["input_ids"] if prompt else []
        else:
            ids = list(prompt)
        encoded.append(_checked(ids, loaded, "prompt"))
    return encoded


def max_answer_tokens(loaded: LoadedModel, prompt: list[int], requested: int | None) -> int:
    """Return the maximum number of tokens of the answer; None requests as many as fit."""
    available = loaded.max_length - len(prompt)
    if requested is not None and requested > available:
        raise _too_long(loaded, len(prompt), requested)
    return requested or available


def _checked(ids: list[int], loaded: LoadedModel, param: str) -> list[int]:
    """Return the ids if the model can take them: an id without an embedding row would end a CUDA process."""
    if not ids:
        raise ApiError(f"`{param}` has no tokens.", param=param)
    wrong = next((token for token in ids if not 0 <= token < loaded.embedding_rows), None)
    if wrong is not None:
        text = loaded.backend.id_to_token(wrong) if wrong >= 0 else None
        raise ApiError(
            f"Token id {wrong}{f' ({text!r})' if text else ''} has no embedding in this model "
            f"(0 to {loaded.embedding_rows - 1}).",
            param=param,
            code="token_without_embedding",
        )
    if len(ids) >= loaded.max_length:
        raise _too_long(loaded, len(ids), None)
    return ids


def _too_long(loaded: LoadedModel, prompt: int, requested: int | None) -> ApiError:
    amount = (
        f"{prompt} tokens"
        if requested is None
        else f"{prompt + requested} tokens ({prompt} in the prompt, {requested} for the answer)"
    )
    return ApiError(
        f"This model's maximum context length is {loaded.max_length} tokens, but {amount} were requested. "
        "Shorten the prompt or request a shorter answer.",
        param="prompt" if requested is None else "max_tokens",
        code="context_length_exceeded",
    )
