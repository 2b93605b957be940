"""Chat answers for the UI: text pieces of one or several models, through the engine proxy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ..openai_errors import ApiError
from ..sse import STREAM_END, event_data
from .engine_client import error_text
from .engine_proxy import EngineLost, EngineProxy, engine_lost_error

ChatMessages = list[dict[str, str]]


class ChatFailed(Exception):
    """There is no answer, or it was interrupted; the message is shown in the UI."""


async def stream_text(
    proxy: EngineProxy, model: str, messages: ChatMessages, sampling: dict[str, Any]
) -> AsyncGenerator[str]:
    """Yield the pieces of one answer as they arrive; raise ChatFailed."""
    body = {"model": model, "messages": messages, "stream": True, **sampling}
    try:
        async with proxy.request("/v1/chat/completions", body) as answer:
            if answer.status != 200:
                raise ChatFailed(error_text(await answer.read()))
            async for block in answer.events():
                for piece in _pieces(block):
                    yield piece
    except ApiError as error:
        raise ChatFailed(error.message) from None
    except EngineLost:
        raise ChatFailed(engine_lost_error().message) from None


class AnswerStreams:
    """Several running answers, merged into one stream of pieces that can be stopped."""

    def __init__(self, streams: list[AsyncGenerator[str]]) -> None:
        self._pieces: asyncio.Queue[tuple[int, str | ChatFailed | None]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._read(i, stream)) for i, stream in enumerate(streams)]
        for index, task in enumerate(self._tasks):
            task.add_done_callback(lambda _, index=index: self._pieces.put_nowait((index, None)))
        self.discarded = False
        """Whether the pieces received so far must not be shown."""

    def stop(self, *, discard: bool = False) -> None:
        """Cancel all answers; pieces received so far are kept unless ``discard`` is set."""
        self.discarded |= discard
        for task in self._tasks:
            task.cancel()

    async def pieces(self) -> AsyncGenerator[tuple[int, str | ChatFailed]]:
        """Yield (answer index, piece) as they arrive; a failed answer yields its error last."""
        running = len(self._tasks)
        try:
            while running:
                index, piece = await self._pieces.get()
                if piece is None:
                    running -= 1
                else:
                    yield index, piece
        finally:
            self.stop()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, index: int, stream: AsyncGenerator[str]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    self._pieces.put_nowait((index, piece))
        except ChatFailed as failure:
            self._pieces.put_nowait((index, failure))


def _pieces(block: bytes) -> list[str]:
    pieces: list[str] = []
    for data in event_data(block.decode().split("\n")):
        if data == STREAM_END:
            continue
        event = json.loads(data)
        if "error" in event:
            raise ChatFailed(str(event["error"].get("message", event["error"])))
        pieces += [choice["delta"].get("content") or "" for choice in event.get("choices", [])]
    return pieces
