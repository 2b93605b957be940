"""The page's conversations: text in, text out, through the same gateway as the API."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ..sse import STREAM_END, event_data
from .engine_client import error_text
from .engine_proxy import EngineLost, Gateway, lost
from .errors import Refused

ChatMessages = list[dict[str, str]]


class ChatFailed(Exception):
    """There is no answer, or no more of it; the text is for the page."""


async def stream_text(
    gateway: Gateway, model: str, messages: ChatMessages, sampling: dict[str, Any]
) -> AsyncGenerator[str]:
    """Yield the pieces of one answer as they come; raise ChatFailed."""
    body = {"model": model, "messages": messages, "stream": True, **sampling}
    try:
        async with gateway.answer("/v1/chat/completions", body) as answer:
            if answer.status != 200:
                raise ChatFailed(error_text(await answer.read()))
            async for block in answer.events():
                for piece in _pieces(block):
                    yield piece
    except Refused as refusal:
        raise ChatFailed(refusal.message) from None
    except EngineLost:
        raise ChatFailed(lost().message) from None


class Answers:
    """Several answers under way, as one stream of pieces that may be stopped from outside."""

    def __init__(self, streams: list[AsyncGenerator[str]]) -> None:
        self._pieces: asyncio.Queue[tuple[int, str | ChatFailed | None]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._read(i, stream)) for i, stream in enumerate(streams)]
        for index, task in enumerate(self._tasks):
            task.add_done_callback(lambda _, index=index: self._pieces.put_nowait((index, None)))
        self.discarded = False
        """Whether nobody wants to see what came so far."""

    def stop(self, *, discard: bool = False) -> None:
        """End all answers at once; what came so far stays unless it is discarded."""
        self.discarded |= discard
        for task in self._tasks:
            task.cancel()

    async def pieces(self) -> AsyncGenerator[tuple[int, str | ChatFailed]]:
        """Yield pieces as they come, each with its answer's index; a failed answer yields its error last."""
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
    found: list[str] = []
    for data in event_data(block.decode().split("\n")):
        if data == STREAM_END:
            continue
        event = json.loads(data)
        if "error" in event:
            raise ChatFailed(str(event["error"].get("message", event["error"])))
        found += [choice["delta"].get("content") or "" for choice in event.get("choices", [])]
    return found


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r"( *)(`{3,})([^`|\n]*)\n?")
"""A line that opens fenced code, or closes it if nothing follows the backticks."""
_BLANK_LINES = re.compile(r"(\n[ \t]*\n)")
_TOKEN = re.compile(
    r"(?P<escape>\\[^\n])"
    r"|(?P<code>(?P<ticks>`+)(?!`)[^\n|]*?[^`\n|](?P=ticks)(?!`))"  # a | may end a cell, and the code
    r"|(?P<stray>`+)"
    r"|(?P<markup>[<&])"
)


def as_markdown(text: str) -> str:
    """Return a model's text with its markup shown as text; code stays as it is, Markdown keeps it so.

    What is not code beyond doubt is escaped, even if that shows an entity in odd code. The page's
    sanitizer and its content policy are two more fences behind this one.
    """
    lines = _LINE.findall(text.replace("\r\n", "\n").replace("\r", "\n"))  # splitlines knows more ends
    done: list[str] = []
    prose: list[str] = []
    while lines:
        opening = _FENCE.fullmatch(lines[0])
        length = _code_length(lines, opening) if opening else 0
        if length:
            done += [_prose("".join(prose)), *lines[:length]]
            prose, lines = [], lines[length:]
        elif "```" in lines[0] or "~~~" in lines[0]:
            break  # from here on, what is code and what is not depends on lists, quotes and more
        else:
            prose.append(lines.pop(0))
    return "".join([*done, _prose("".join(prose)), _escaped("".join(lines))])


def _code_length(lines: list[str], opening: re.Match[str]) -> int:
    """Return how many lines the fenced code at the beginning has; 0 where that is in doubt."""
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
    """Escape markup outside inline code; with a backtick too many, nothing counts as code."""
    if any(match["stray"] for match in _TOKEN.finditer(text)):
        return _escaped(text)
    return _TOKEN.sub(lambda match: _escaped(match[0]) if match["markup"] else match[0], text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
