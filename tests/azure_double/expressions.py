"""Expressions that a snapshot leaves as text, evaluated against the live state."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from .http import Refused

Lookup = Callable[..., Any]
"""Answers reference(id, version, …) or a list function (name, id, version, …)."""

_TOKEN = re.compile(
    r"\s*(?:'((?:[^']|'')*)'|(-?\d+(?:\.\d+)?)|(true|false|null)\b(?!\()|([A-Za-z_][\w.]*)|(.))", re.S
)


def evaluate_expressions(value: Any, functions: Mapping[str, Lookup]) -> Any:
    """Return a value with every "[expression]" in it evaluated; `functions` are those of the live state."""
    if isinstance(value, Mapping):
        return {key: evaluate_expressions(entry, functions) for key, entry in value.items()}
    if isinstance(value, list):
        return [evaluate_expressions(entry, functions) for entry in value]
    if not isinstance(value, str) or not (value.startswith("[") and value.endswith("]")):
        return value
    if value.startswith("[["):
        return value[1:]
    return _Expression(value[1:-1], functions).result()


def references(value: Any) -> bool:
    """Whether there is still text to evaluate in a value."""
    if isinstance(value, Mapping):
        return any(map(references, value.values()))
    if isinstance(value, list):
        return any(map(references, value))
    return (
        isinstance(value, str)
        and value.startswith("[")
        and value.endswith("]")
        and not value.startswith("[[")
    )


class _Expression:
    """A recursive descent over one expression."""

    def __init__(self, text: str, functions: Mapping[str, Lookup]) -> None:
        self._text = text
        self._functions = {**_PURE, **{name.lower(): function for name, function in functions.items()}}
        self._tokens = [match for match in _TOKEN.finditer(text) if match[0].strip()]
        self._at = 0

    def result(self) -> Any:
        value = self._value()
        if self._at != len(self._tokens):
            raise self._wrong("something is left over")
        return value

    def _value(self) -> Any:
        token = self._next()
        if token[1] is not None:
            value: Any = token[1].replace("''", "'")
        elif token[2] is not None:
            value = json.loads(token[2])
        elif token[3] is not None:
            value = json.loads(token[3])
        elif token[4] is not None:
            value = self._call(token[4])
        else:
            raise self._wrong(f"'{token[5]}' is unexpected")
        return self._path(value)

    def _call(self, name: str) -> Any:
        self._expect("(")
        arguments: list[Any] = []
        while self._peek() != ")":
            arguments.append(self._value())
            if self._peek() == ",":
                self._next()
        self._expect(")")
        function = self._functions.get(name.lower())
        if function is None and name.lower().startswith("list"):
            listed = self._functions.get("list*")
            function = (lambda *given: listed(name, *given)) if listed else None
        if function is None:
            raise self._wrong(f"the function '{name}' is not known here")
        return function(*arguments)

    def _path(self, value: Any) -> Any:
        while self._at < len(self._tokens):
            if self._peek() == ".":
                self._next()
                for name in self._next()[0].strip().split("."):
                    value = self._member(value, name)
            elif self._peek() == "[":
                self._next()
                value = self._member(value, self._value())
                self._expect("]")
            else:
                break
        return value

    def _member(self, value: Any, name: Any) -> Any:
        if isinstance(value, list) and isinstance(name, int) and name < len(value):
            return value[name]
        if isinstance(value, Mapping):
            for key, entry in value.items():
                if str(key).lower() == str(name).lower():
                    return entry
            known = ", ".join(map(str, value))
            raise self._wrong(
                f"The language expression property '{name}' doesn't exist, available properties are "
                f"'{known}'."
            )
        raise self._wrong(f"The language expression property '{name}' can't be evaluated.")

    def _next(self) -> re.Match[str]:
        if self._at >= len(self._tokens):
            raise self._wrong("it ends early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self) -> str:
        return self._tokens[self._at][0].strip() if self._at < len(self._tokens) else ""

    def _expect(self, text: str) -> None:
        if self._next()[0].strip() != text:
            raise self._wrong(f"'{text}' is missing")

    def _wrong(self, why: str) -> Refused:
        message = f"Unable to evaluate template language function in '{self._text}': {why}"
        return Refused(400, "InvalidTemplate", message)


def _format(pattern: str, *values: Any) -> str:
    return re.sub(r"\{(\d+)\}", lambda match: str(values[int(match[1])]), pattern)


_PURE: dict[str, Lookup] = {
    "format": _format,
    "concat": lambda *parts: "".join(map(str, parts)) if isinstance(parts[0], str) else list(chain(*parts)),
    "if": lambda condition, yes, no: yes if condition else no,
    "equals": lambda one, other: one == other,
    "not": lambda value: not value,
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "tolower": lambda text: str(text).lower(),
    "string": lambda value: value if isinstance(value, str) else json.dumps(value),
}
