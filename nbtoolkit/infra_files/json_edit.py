"""Change one value in a JSON text and leave every other byte as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from nbtoolkit.utils.json_file import members

Key = tuple[str, ...]
Span = tuple[int, int]


def spans(text: str) -> dict[Key, Span]:
    """Return where the value of every object member lies; the text must be a valid JSON object.

    The whole object is under the empty key. Lists are not looked into.
    """
    return {member.path: (member.start, member.end) for member in members(text)}


def with_value(text: str, key: Key, value: Any) -> str:
    """Return the text with the value at ``key`` changed, or added after its last sibling.

    Objects on the way are added where they are missing; what is on the way must not be another type.
    """
    places = spans(text)
    if key in places:
        start, end = places[key]
        return text[:start] + _rendered(text, value, _indent_at(text, start)) + text[end:]
    parent = key[:-1]
    if parent not in places:
        return with_value(text, parent, {key[-1]: value})
    siblings = [place for place in places if place[:-1] == parent and len(place) == len(key)]
    return _with_member(text, places[parent], [places[place] for place in siblings], key[-1], value)


def _with_member(text: str, parent: Span, siblings: Sequence[Span], name: str, value: Any) -> str:
    start, end = parent
    first_line = text[start : siblings[0][0]] if siblings else "\n"
    if "\n" not in first_line or "\n" not in text:  # {"a": 1, "b": 2} on one line
        last = siblings[-1][1] if siblings else start + 1
        return f"{text[:last]}{', ' if siblings else ''}{json.dumps(name)}: {json.dumps(value)}{text[last:]}"
    newline = _newline(text)
    outer = _indent_at(text, start)
    inner = _indent_at(text, siblings[0][0]) if siblings else outer + _unit(text)
    member = f"{newline}{inner}{json.dumps(name)}: {_rendered(text, value, inner)}"
    if siblings:
        last = siblings[-1][1]
        return f"{text[:last]},{member}{text[last:]}"
    return f"{text[: start + 1]}{member}{newline}{outer}{text[end - 1 :]}"


def _rendered(text: str, value: Any, indent: str) -> str:
    if "\n" not in text:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text)).split("\n")
    return f"{_newline(text)}{indent}".join(lines)


def _indent_at(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position].lstrip("\ufeff")
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit(text: str) -> str:
    match = re.search(r"\n([ \t]+)\S", text)
    return match[1] if match else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
