"""Chat answers for the UI: pieces of text of one or several models, and their safe Markdown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ..openai_format import STREAM_END, ApiError, event_data
from .engine_process import error_text
from .engine_proxy import EngineLost, EngineProxy, engine_lost_error

ChatMessages = list[dict[str, str]]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r"( *)(`{3,})([^`|\n]*)\n?")
"""A line that opens fenced code, or closes it if nothing follows the backticks."""
_BLANK_LINES = re.compile(r"(\n[ \t]*\n)")
_TOKEN = re.compile(
    r"(?P<escape>\\[^\n])"
    r"|(?P<code>(?P<ticks>`+)(?!`)[^\n|]*?[^`\n|](?P=ticks)(?!`))"  # a | may end a table cell, and the code
    r"|(?P<stray>`+)"
    r"|(?P<markup>[<&])"
)


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


def as_markdown(text: str) -> str:
    """Return a model's text with its markup escaped, except inside code, which Markdown shows literally.

    Text that may or may not be code is escaped, even if that shows an entity in unusual code. Gradio's
    sanitizer and the content security policy are two further protections.
    """
    lines = _LINE.findall(
        text.replace("\r\n", "\n").replace("\r", "\n")
    )  # splitlines splits at more characters
    done: list[str] = []
    prose: list[str] = []
    while lines:
        opening = _FENCE.fullmatch(lines[0])
        length = _code_length(lines, opening) if opening else 0
        if length:
            done += [_prose("".join(prose)), *lines[:length]]
            prose, lines = [], lines[length:]
        elif "```" in lines[0] or "~~~" in lines[0]:
            break  # from here on, code depends on lists, quotes and more: escape the rest
        else:
            prose.append(lines.pop(0))
    return "".join([*done, _prose("".join(prose)), _escaped("".join(lines))])


def _code_length(lines: list[str], opening: re.Match[str]) -> int:
    """Return the number of lines of fenced code at the beginning; 0 if it is ambiguous."""
    indent, ticks, _ = opening.groups()
    if len(indent) > 3:
        return 0
    for number, line in enumerate(lines[1:], 2):
        if line.strip(" \t\n") and not line.startswith(indent):
            return 0  # in a list, this line would end the list and the code
        closing = _FENCE.fullmatch(line)
        if closing and not closing[3].strip(" \t") and len(closing[2]) >= len(ticks):
            return number if len(closing[1]) <= 3 else 0
    return len(lines)


def _prose(text: str) -> str:
    return "".join(map(_paragraph, _BLANK_LINES.split(text)))


def _paragraph(text: str) -> str:
    """Escape markup outside inline code; with an unpaired backtick, all of it."""
    if any(match["stray"] for match in _TOKEN.finditer(text)):
        return _escaped(text)
    return _TOKEN.sub(lambda match: _escaped(match[0]) if match["markup"] else match[0], text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
