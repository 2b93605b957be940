"""Change one value in a JSON text and keep every other byte.

``json.dumps`` with the detected indent does not: it splits lists that are on one line and rewrites numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from nbtoolkit.utils.json_file import members

Key = tuple[str, ...]
Span = tuple[int, int]


def value_spans(text: str) -> dict[Key, Span]:
    """Return the position of every member's value; the text must be a valid JSON object.

    The empty key has the position of the whole object. Lists are not searched.
    """
    return {member.path: (member.start, member.end) for member in members(text)}


def replace_value(text: str, key: Key, value: Any) -> str:
    """Return the text with the value at ``key`` replaced, or added after its last sibling.

    Missing parent objects are added; a parent must not have another type.
    """
    positions = value_spans(text)
    if key in positions:
        start, end = positions[key]
        return text[:start] + _dump(text, value, _indent_at(text, start)) + text[end:]
    parent = key[:-1]
    if parent not in positions:
        return replace_value(text, parent, {key[-1]: value})
    siblings = [other for other in positions if other[:-1] == parent and len(other) == len(key)]
    return _add_member(text, positions[parent], [positions[sibling] for sibling in siblings], key[-1], value)


def _add_member(text: str, parent: Span, siblings: Sequence[Span], name: str, value: Any) -> str:
    start, end = parent
    first_line = text[start : siblings[0][0]] if siblings else "\n"
    if "\n" not in first_line or "\n" not in text:  # {"a": 1, "b": 2} on one line
        last = siblings[-1][1] if siblings else start + 1
        return f"{text[:last]}{', ' if siblings else ''}{json.dumps(name)}: {json.dumps(value)}{text[last:]}"
    newline = _newline(text)
    outer = _indent_at(text, start)
    inner = _indent_at(text, siblings[0][0]) if siblings else outer + _indent_unit(text)
    member = f"{newline}{inner}{json.dumps(name)}: {_dump(text, value, inner)}"
    if siblings:
        last = siblings[-1][1]
        return f"{text[:last]},{member}{text[last:]}"
    return f"{text[: start + 1]}{member}{newline}{outer}{text[end - 1 :]}"


def _dump(text: str, value: Any, indent: str) -> str:
    if "\n" not in text:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=_indent_unit(text)).split("\n")
    return f"{_newline(text)}{indent}".join(lines)


def _indent_at(text: str, position: int) -> str:
    line = text[text.rfind("\n", 0, position) + 1 : position].lstrip("\ufeff")
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indent_unit(text: str) -> str:
    match = re.search(r"\n([ \t]+)\S", text)
    return match[1] if match else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
