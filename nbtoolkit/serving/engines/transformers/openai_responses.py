"""Responses in OpenAI format, for chat and plain completions, complete and streamed."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ...openai_format import ApiError
from .detokenizer import TokenNames
from .engine import Engine
from .openai_schema import ChatRequest, CompletionRequest
from .sequence import Sequence, TokenEvent, TokenLogprob
from .tokenization import max_answer_tokens


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


class ResponseFormatter:
    """Formats the ``choices`` of one request's responses."""

    def __init__(
        self, request: ChatRequest | CompletionRequest, names: TokenNames, with_logprobs: bool
    ) -> None:
        self._chat = isinstance(request, ChatRequest)
        self.chunk_object = "chat.completion.chunk" if self._chat else "text_completion"
        self.head: dict[str, Any] = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": self.chunk_object.removesuffix(".chunk"),
            "created": int(time.time()),
            "model": request.model,
        }
        self._names = names
        self._tokens_as_ids = bool(request.return_tokens_as_token_ids)
        self._with_logprobs = with_logprobs

    def whole(self, index: int, answer: AnswerState) -> dict[str, Any]:
        """Return a complete answer."""
        message = {"role": "assistant", "content": answer.text}
        content = {"message": message} if self._chat else {"text": answer.text}
        return self._choice(index, content, answer.logprobs, answer.finish)

    def opening(self, index: int) -> dict[str, Any] | None:
        """Return a chat's first chunk, which has the role; a plain completion begins with its text."""
        delta = {"role": "assistant", "content": ""}
        return self._choice(index, {"delta": delta}, None, None) if self._chat else None

    def piece(self, index: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk that adds the event's text; offsets count from the answer's beginning."""
        if not self._chat:
            return self._choice(index, {"text": event.text}, event.logprobs, event.finish)
        delta = {"content": event.text} if event.text or event.logprobs else {}
        return self._choice(index, {"delta": delta}, event.logprobs or None, event.finish)

    def _choice(
        self, index: int, content: dict[str, Any], entries: Sequence_[TokenLogprob] | None, finish: str | None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(entries) if self._with_logprobs and entries is not None else None
        return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, entries: Sequence_[TokenLogprob]) -> dict[str, Any]:
        choices = [entry.choice for entry in entries]
        if self._chat:
            content = [
                {**self._token(c.token, c.logprob), "top_logprobs": [self._token(*pair) for pair in c.top]}
                for c in choices
            ]
            return {"content": content, "refusal": None}
        return {
            "tokens": [self._name(choice.token) for choice in choices],
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": [
                {self._name(token): logprob for token, logprob in reversed(choice.top)} for choice in choices
            ],
            "text_offset": [entry.offset for entry in entries],
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self._name(token), "logprob": logprob, "bytes": list(self._names.raw(token))}

    def _name(self, token: int) -> str:
        return self._names.text(token, as_id=self._tokens_as_ids)


class GenerationStream:
    """The ``n`` answers to every prompt of one request, queued when created; used on the event loop."""

    def __init__(
        self,
        engine: Engine,
        request: ChatRequest | CompletionRequest,
        adapter: str | None,
        prompts: list[list[int]],
        max_tokens: int | None,
        logprobs: int | None,
    ) -> None:
        self.request = request
        self._engine = engine
        self._formatter = ResponseFormatter(request, engine.loaded.token_names, logprobs is not None)
        self._events: asyncio.Queue[tuple[int, TokenEvent]] = asyncio.Queue()
        self._prompt_tokens = sum(map(len, prompts))
        self._sequences: list[Sequence] = []
        lengths = [max_answer_tokens(engine.loaded, prompt, max_tokens) for prompt in prompts]
        for prompt, length in zip(prompts, lengths, strict=True):
            for number in range(request.n):
                sequence = Sequence(
                    prompt,
                    adapter=adapter,
                    sampling=request.sampling(logprobs, number),
                    max_tokens=length,
                    stop_ids=frozenset() if request.ignore_eos else engine.loaded.stop_ids,
                    stops=request.stops,
                    tokenizer=engine.loaded.backend,
                    deliver=engine.on_event_loop(partial(self._receive, len(self._sequences))),
                )
                self._sequences.append(sequence)
        self._answers = [AnswerState() for _ in self._sequences]
        engine.submit(self._sequences)

    def close(self) -> None:
        """Free the rows of unfinished answers."""
        self._engine.cancel(
            [s for s, answer in zip(self._sequences, self._answers, strict=True) if not answer.finish]
        )

    async def response(self) -> dict[str, Any]:
        """Return the complete response; raise :class:`ApiError` if the engine failed."""
        try:
            async for _ in self._all_events():
                pass
        finally:
            self.close()
        return {
            **self._formatter.head,
            "choices": [self._formatter.whole(i, answer) for i, answer in enumerate(self._answers)],
            "usage": self._usage(),
            "system_fingerprint": None,
        }

    async def chunks(self) -> AsyncIterator[str]:
        """Yield the response as server-sent events, ending with ``[DONE]``."""
        head = {**self._formatter.head, "object": self._formatter.chunk_object, "system_fingerprint": None}
        with_usage = self.request.stream_options and self.request.stream_options.include_usage
        extra: dict[str, Any] = {"usage": None} if with_usage else {}

        def chunk(choice: dict[str, Any]) -> str:
            return _event({**head, "choices": [choice], **extra})

        try:
            for index in range(len(self._sequences)):
                if opening := self._formatter.opening(index):
                    yield chunk(opening)
            async for index, event in self._all_events():
                yield chunk(self._formatter.piece(index, event))
            if with_usage:
                yield _event({**head, "choices": [], "usage": self._usage()})
        except ApiError as error:
            yield error.event.decode()
        finally:
            self.close()
        yield "data: [DONE]\n\n"

    async def _all_events(self) -> AsyncIterator[tuple[int, TokenEvent]]:
        """Yield the events of all answers until each is finished; raise the first error."""
        running = len(self._sequences)
        while running:
            index, event = await self._events.get()
            if event.error:
                raise event.error
            self._answers[index].add(event)
            yield index, event
            running -= event.finish is not None

    def _receive(self, index: int, event: TokenEvent) -> None:
        self._events.put_nowait((index, event))

    def _usage(self) -> dict[str, int]:
        """Return the token counts; each prompt counts once, however many answers it got."""
        tokens = sum(answer.tokens for answer in self._answers)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self._prompt_tokens + tokens,
        }


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
