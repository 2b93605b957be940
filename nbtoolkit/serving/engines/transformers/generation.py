"""Collect one request's answers from the scheduler, on the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from ...openai_errors import ApiError
from .engine import Engine
from .openai_responses import AnswerState, ResponseFormatter, usage
from .openai_schema import Request
from .sequence import Sequence, TokenEvent


class GenerationStream:
    """The sequences of one request; :meth:`close` frees their rows, finished or not."""

    def __init__(self, engine: Engine, request: Request, formatter: ResponseFormatter) -> None:
        self.request = request
        self._engine = engine
        self._formatter = formatter
        self._sequences: list[Sequence] = []
        self._choices: list[AnswerState] = []
        self._events: asyncio.Queue[tuple[int, TokenEvent]] = asyncio.Queue()
        self._prompt_tokens = 0

    def submit(
        self, prompts: list[list[int]], adapter: str | None, lengths: list[int], logprobs: int | None
    ) -> None:
        """Queue ``n`` answers to every prompt."""
        loaded = self._engine.loaded
        stop_ids = frozenset[int]() if self.request.ignore_eos else loaded.stop_ids
        for prompt, length in zip(prompts, lengths, strict=True):
            self._prompt_tokens += len(prompt)
            for number in range(self.request.n):
                index = len(self._sequences)
                self._choices.append(AnswerState())
                self._sequences.append(
                    Sequence(
                        prompt,
                        adapter=adapter,
                        sampling=self.request.sampling(logprobs, number),
                        max_tokens=length,
                        stop_ids=stop_ids,
                        stops=self.request.stops,
                        tokenizer=loaded.backend,
                        deliver=self._engine.on_event_loop(self._receiver(index)),
                    )
                )
        self._engine.submit(self._sequences)

    def close(self) -> None:
        """Free the rows of unfinished answers."""
        unfinished = [
            s for s, choice in zip(self._sequences, self._choices, strict=True) if not choice.finish
        ]
        if unfinished:
            self._engine.cancel(unfinished)

    async def response(self) -> dict[str, Any]:
        """Return the complete response; raise :class:`ApiError` if the engine failed."""
        try:
            async for index, event in self._all_events():
                self._choices[index].add(event)
        finally:
            self.close()
        return {
            **self._formatter.head,
            "choices": self._formatter.whole(self._choices),
            "usage": usage(self._prompt_tokens, self._choices),
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
                self._choices[index].add(event)
                yield chunk(self._formatter.piece(index, event))
            if with_usage:
                yield _event({**head, "choices": [], "usage": usage(self._prompt_tokens, self._choices)})
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
            yield index, event
            running -= event.finish is not None

    def _receiver(self, index: int) -> Any:
        return lambda event: self._events.put_nowait((index, event))


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
