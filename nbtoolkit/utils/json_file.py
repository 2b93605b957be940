"""Read JSON files that people edit; errors name line, column and key of the problem."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nbtoolkit.errors import BrokenFile

_KEY = re.compile(r'"((?:[^"\\\n]|\\.)*)"\s*:')
_BLANK = re.compile(r"[\ufeff \t\r\n]*")
_DECODER = json.JSONDecoder()


class Member(NamedTuple):
    """A member of an object: its keys from the outside in, and the positions of key and value in the text."""

    path: tuple[str, ...]
    key_start: int
    start: int
    end: int


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; a byte order mark is ignored.

    Raises :class:`BrokenFile` with ``path``, ``line``, ``column`` and ``key`` (the nearest key before the
    problem) if it is not a JSON object, has a key twice or cannot be read.
    """
    return parse_object(read_text(path), path)


def read_text(path: Path) -> str:
    """Return a file's text with its line ends and byte order mark; raises BrokenFile."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BrokenFile(
            f"{path} cannot be read: {error.strerror or error}.",
            next_step="give the right path, or make the file readable",
            path=path,
        ) from error
    except UnicodeDecodeError as error:
        if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise BrokenFile(
                f"{path} is UTF-16 text, as PowerShell's > writes it, not UTF-8.",
                next_step="save the file as UTF-8",
                path=path,
            ) from error
        raise BrokenFile(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}.",
            next_step="save the file as UTF-8",
            path=path,
        ) from error


def parse_object(text: str, path: Path) -> dict[str, Any]:
    """Return the JSON object in the text of the file ``path``; raises BrokenFile."""
    mark = len(text) - len(text.removeprefix("\ufeff"))
    try:
        value = json.loads(text[mark:], object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise broken(path, text, error.pos + mark, error.msg[:1].lower() + error.msg[1:]) from None
    except _DuplicateKeyError as error:
        raise broken(path, text, _second(text, error.key), f"the key {error.key!r} appears twice") from None
    except RecursionError:
        raise broken(path, text, 0, "nested too deeply") from None
    except ValueError as error:  # a number with more digits than Python converts
        raise broken(path, text, 0, str(error)[:1].lower() + str(error)[1:]) from None
    if not isinstance(value, dict):
        raise broken(path, text, mark, f"wanted an object in braces, found {type(value).__name__}")
    return value


def members(text: str) -> Iterator[Member]:
    """Yield all members of a valid JSON object, inner ones first, the whole last; lists are leaves."""
    start = _skip(text, 0)
    end = yield from _members(text, start, ())
    yield Member((), start, start, end)


def _members(text: str, start: int, outer: tuple[str, ...]) -> Generator[Member, None, int]:
    position = _skip(text, start + 1)
    while text[position] != "}":
        key_start = position
        key, position = _DECODER.raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # the colon
        path = (*outer, key)
        if text[position] == "{":
            end = yield from _members(text, position, path)
        else:
            _, end = _DECODER.raw_decode(text, position)
        yield Member(path, key_start, position, end)
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return position + 1


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _second(text: str, key: str) -> int:
    """Return the second position of a key in one object, its last position if that is inside of a list."""
    seen: set[tuple[str, ...]] = set()
    position = 0
    try:
        for member in members(text):
            if member.path[-1:] == (key,):
                position = member.key_start
                if member.path in seen:
                    return position
                seen.add(member.path)
    except (ValueError, IndexError):
        pass  # not valid further on: the position found so far is the best one
    return position


def broken(path: Path, text: str, position: int, problem: str, key: str | None = None) -> BrokenFile:
    """Return the error for a problem at a position of a file's text, with line, column and key.

    Without ``key`` it names the nearest key before the position.
    """
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    before = [match[1] for match in _KEY.finditer(text) if match.start() <= position]
    near = f", near the key {before[-1]!r}" if before else ""
    if key is not None:
        near = f", key {key!r}"
    return BrokenFile(
        f"{path}, line {line}, column {column}{near}: {problem}.",
        next_step=f"correct line {line} of {path.name}",
        path=path,
        line=line,
        column=column,
        key=key if key is not None else (before[-1] if before else None),
        problem=problem,
    )


class _DuplicateKeyError(ValueError):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found
