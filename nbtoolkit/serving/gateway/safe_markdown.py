"""Escape the markup in a model's Markdown text, except in code."""

from __future__ import annotations

import re

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
