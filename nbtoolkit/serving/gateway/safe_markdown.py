"""Escape the markup in a model's Markdown text, except in code."""

from __future__ import annotations

import re

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
