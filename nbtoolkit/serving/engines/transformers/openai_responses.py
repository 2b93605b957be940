"""Responses in OpenAI format, for chat and plain completions, complete and streamed."""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass, field
from typing import Any

from .detokenizer import TokenNames
from .openai_schema import ChatRequest, CompletionRequest
from .sequence import TokenEvent, TokenLogprob


@dataclass
class AnswerState:
    """One answer so far."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    tokens: int = 0
    finish: str | None = None

    def add(self, event: TokenEvent) -> None:
        """Add one event."""
        self.text += event.text
        self.logprobs += event.logprobs
        self.tokens = event.tokens
        self.finish = event.finish


class ResponseFormatter(ABC):
    """Formats the responses of one endpoint."""

    response_object: str
    chunk_object: str
    id_prefix: str

    def __init__(
        self, request: ChatRequest | CompletionRequest, names: TokenNames, with_logprobs: bool
    ) -> None:
        self.head: dict[str, Any] = {
            "id": f"{self.id_prefix}-{uuid.uuid4().hex}",
            "object": self.response_object,
            "created": int(time.time()),
            "model": request.model,
        }
        self._names = names
        self._tokens_as_ids = bool(request.return_tokens_as_token_ids)
        self._with_logprobs = with_logprobs

    @abstractmethod
    def whole(self, choices: Sequence_[AnswerState]) -> list[dict[str, Any]]:
        """Return the ``choices`` of a complete response."""

    @abstractmethod
    def opening(self, index: int) -> dict[str, Any] | None:
        """Return the first chunk's choice, if the endpoint sends one before any text."""

    @abstractmethod
    def piece(self, index: int, event: TokenEvent) -> dict[str, Any]:
        """Return the choice of the chunk that adds the event's text."""

    def _name(self, token: int) -> str:
        return self._names.text(token, as_id=self._tokens_as_ids)


class ChatFormatter(ResponseFormatter):
    """``/v1/chat/completions``."""

    response_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    id_prefix = "chatcmpl"

    def whole(self, choices: Sequence_[AnswerState]) -> list[dict[str, Any]]:
        """Return the choices with their messages."""
        return [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text},
                "logprobs": self._logprobs(choice.logprobs),
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(choices)
        ]

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return the chunk with the role."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk that adds the event's text."""
        delta = {"content": event.text} if event.text or event.logprobs else {}
        entries = self._logprobs(event.logprobs) if event.logprobs else None
        return {"index": index, "delta": delta, "logprobs": entries, "finish_reason": event.finish}

    def _logprobs(self, entries: Sequence_[TokenLogprob]) -> dict[str, Any] | None:
        if not self._with_logprobs:
            return None
        return {
            "content": [
                {
                    **self._token_entry(entry.choice.token, entry.choice.logprob),
                    "top_logprobs": [
                        self._token_entry(token, logprob) for token, logprob in entry.choice.top
                    ],
                }
                for entry in entries
            ],
            "refusal": None,
        }

    def _token_entry(self, token: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._name(token),
            "logprob": logprob,
            "bytes": list(self._names.raw(token)),
        }


class CompletionFormatter(ResponseFormatter):
    """``/v1/completions``."""

    response_object = chunk_object = "text_completion"
    id_prefix = "cmpl"

    def whole(self, choices: Sequence_[AnswerState]) -> list[dict[str, Any]]:
        """Return the choices with their texts."""
        return [
            self._choice(i, choice.text, choice.logprobs, choice.finish) for i, choice in enumerate(choices)
        ]

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return None: a plain completion begins with its text."""
        del index

    def piece(self, index: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk that adds the event's text; offsets count from the answer's beginning."""
        return self._choice(index, event.text, event.logprobs, event.finish)

    def _choice(
        self, index: int, text: str, entries: Sequence_[TokenLogprob], finish: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._logprobs(entries), "finish_reason": finish}

    def _logprobs(self, entries: Sequence_[TokenLogprob]) -> dict[str, Any] | None:
        if not self._with_logprobs:
            return None
        return {
            "tokens": [self._name(entry.choice.token) for entry in entries],
            "token_logprobs": [entry.choice.logprob for entry in entries],
            "top_logprobs": [
                {self._name(token): logprob for token, logprob in reversed(entry.choice.top)}
                for entry in entries
            ],
            "text_offset": [entry.offset for entry in entries],
        }


def usage(prompt_tokens: int, choices: Sequence_[AnswerState]) -> dict[str, int]:
    """Return the token counts; each prompt counts once, however many answers it got."""
    answer = sum(choice.tokens for choice in choices)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer,
        "total_tokens": prompt_tokens + answer,
    }
