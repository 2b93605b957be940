"""Parse the JSON that people and tools leave in files, and say exactly where it is broken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile

_KEY = re.compile(r'"((?:[^"\\\n]|\\.)*)"\s*:')


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; a byte order mark is ignored.

    Raises :class:`BrokenFile` with ``path``, ``line``, ``column`` and ``key`` (the nearest key before the
    place) where it is no JSON object, names a key twice or cannot be read.
    """
    return parse_object(read_text(path), path)


def read_text(path: Path) -> str:
    """Return a file's text as it is, line ends and byte order mark included; raises BrokenFile."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BrokenFile(
            f"{path} cannot be read: {error.strerror or error}.",
            next_step="give the right path, or make the file readable",
            path=path,
        ) from error
    except UnicodeDecodeError as error:
        raise BrokenFile(
            f"{path} is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}.",
            next_step="save the file as UTF-8",
            path=path,
        ) from error


def parse_object(text: str, path: Path) -> dict[str, Any]:
    """Return the JSON object in a text that came from ``path``; raises BrokenFile."""
    mark = len(text) - len(text.removeprefix("\ufeff"))
    try:
        value = json.loads(text[mark:], object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise broken(path, text, error.pos + mark, error.msg[:1].lower() + error.msg[1:]) from None
    except _DuplicateKeyError as error:
        places = [m.start() for m in _KEY.finditer(text) if m[1] == json.dumps(error.key)[1:-1]]
        raise broken(
            path, text, places[-1] if places else 0, f"the key {error.key!r} appears twice"
        ) from None
    except RecursionError:
        raise broken(path, text, 0, "nested too deeply") from None
    if not isinstance(value, dict):
        raise broken(path, text, mark, f"wanted an object in braces, found {type(value).__name__}")
    return value


def broken(path: Path, text: str, position: int, problem: str, key: str | None = None) -> BrokenFile:
    """Return the error for a problem at a position of a file's text, with line, column and key.

    The key is the nearest one before the position where none is given.
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
