"""Parse one golden prompt in any of the accepted forms."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from nbtoolkit.golden.prompts import KINDS, MAX_TOKENS, AnswerCheck, ChatMessage, CheckKind, GoldenPrompt

_ALIASES: dict[str, CheckKind] = {
    "equals": "exact",
    "numeric": "number",
    "json": "json_schema",
    "schema": "json_schema",
}
_OPTIONS = ("tolerance", "ignore_case")
_EXPECTED: dict[str, CheckKind] = {f"expected_{kind}": kind for kind in KINDS}
KEYS = ("id", "prompt", "messages", "system", "max_tokens", "must", "nice", "expected", "check", *_OPTIONS)
"""The keys of a line; ``expected_contains`` and so on are keys too."""


class InvalidPrompt(ValueError):
    """A golden prompt is not valid; ``problems`` has one text for each defect."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def parse_prompt(line: Mapping[str, Any], default_id: str = "") -> GoldenPrompt:
    """Return the prompt of a line; raises :class:`InvalidPrompt` with every defect."""
    problems = [problem for key in line if (problem := unknown_key(key))]
    line = {key: value for key, value in line.items() if value is not None}  # pandas writes null
    messages = _messages(line, problems)
    must, expected = _flat_checks(line, problems)
    must += _checks(line.get("must"), "must", problems)
    nice = _checks(line.get("nice"), "nice", problems)
    if not (must or nice or problems):
        problems.append('it has no check; add "must", such as {"contains": "…"}')
    limit = _whole(line.get("max_tokens", MAX_TOKENS))
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        problems.append(f"max_tokens must be a whole number of at least 1, found {limit!r}")
    name = line.get("id", default_id)
    if isinstance(name, bool) or not isinstance(name, str | int):
        problems.append(f"id must be text, found {name!r}")
    if problems:
        raise InvalidPrompt(problems)
    if expected is None:  # an exact answer is an expected one
        exact = [check.value for check in (*must, *nice) if check.kind == "exact"]
        expected = exact[0] if exact else None
    return GoldenPrompt(
        id=str(name),
        messages=tuple(messages),
        max_tokens=limit,
        must=tuple(must),
        nice=tuple(nice),
        expected=expected,
    )


def _whole(value: Any) -> Any:
    """Return 16 for 16.0, which pandas writes if another row has no value; other values as they are."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def unknown_key(key: str) -> str:
    """Return the problem of a key that is not known, with the nearest one; an empty text if it is known."""
    if key in KEYS or key in _EXPECTED:
        return ""
    return f"unknown key {key!r}; {_nearest(key, (*KEYS, *_EXPECTED))}"


def _messages(line: Mapping[str, Any], problems: list[str]) -> list[ChatMessage]:
    prompt, system = line.get("prompt"), line.get("system")
    if ("prompt" in line) == ("messages" in line):
        problems.append("it needs either 'prompt' or 'messages'" + (", not both" if "prompt" in line else ""))
        return []
    items: Any = line.get("messages", [{"role": "user", "content": prompt}])
    if "prompt" in line and not (isinstance(prompt, str) and prompt.strip()):
        problems.append(f"prompt must be text that is not empty, found {prompt!r}")
        return []
    if not isinstance(items, list) or not items:
        problems.append("messages must be a list of objects with 'role' and 'content'")
        return []
    if system is not None and not isinstance(system, str):
        problems.append(f"system must be text, found {system!r}")
    elif system:
        items = [{"role": "system", "content": system}, *items]
    messages: list[ChatMessage] = []
    for number, item in enumerate(items, 1):
        try:
            messages.append(ChatMessage.model_validate(item))
        except ValidationError as error:
            problems += [
                f"message {number}: {'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}"
                for one in error.errors(include_url=False)
            ]
    roles = [message.role for message in messages]
    if messages and "system" in roles[1:]:
        problems.append("a system message must be the first one, and there can be only one")
    if messages and roles[-1] != "user":
        problems.append(f"the last message must be the user's, and it is of role {roles[-1]!r}")
    return messages


def _flat_checks(line: Mapping[str, Any], problems: list[str]) -> tuple[list[AnswerCheck], str | None]:
    """Return the checks of ``check`` and ``expected_…``, and the expected answer."""
    options = {name: line[name] for name in _OPTIONS if name in line}
    checks: list[AnswerCheck] = []
    for key, kind in _EXPECTED.items():
        if key in line:
            checks += _values(kind, line[key], options, key, problems)
    expected = line.get("expected")
    if (name := line.get("check")) is not None:
        if (kind := _kind(name)) is None:
            problems.append(f"unknown check {name!r}; {_nearest(str(name), KINDS)}")
        elif "expected" not in line and kind != "json_schema":
            problems.append(f"check {name!r} needs the key 'expected'")
        else:
            value = line.get("expected", True)  # any JSON
            checks += _values(kind, value, options, "expected", problems)
            expected = None
    elif options and not checks:
        problems.append(f"{next(iter(options))} belongs into a check of 'must' or 'nice'")
    elif "expected" in line and not isinstance(expected, str):
        problems.append(f"expected must be text if there is no 'check', found {expected!r}")
    return checks, expected if isinstance(expected, str) else None


def _checks(entry: Any, where: str, problems: list[str]) -> list[AnswerCheck]:
    """Return the checks of ``must`` or ``nice``: one object or a list of objects."""
    if entry is None:
        return []
    items: list[Any] = entry if isinstance(entry, list) else [entry]
    found: list[AnswerCheck] = []
    for number, item in enumerate(items, 1):
        place = f"{where}[{number}]" if isinstance(entry, list) else where
        if not isinstance(item, dict):
            problems.append(f'{place}: a check is an object, such as {{"contains": "…"}}, found {item!r}')
            continue
        options = {name: item[name] for name in _OPTIONS if name in item}
        names = [name for name in item if name not in _OPTIONS]
        if not names:
            problems.append(f"{place}: it has no check; {_nearest('', KINDS)}")
        for name in names:
            if (kind := _kind(name)) is None:
                problems.append(f"{place}: unknown check {name!r}; {_nearest(name, (*KINDS, *_OPTIONS))}")
            else:
                found += _values(kind, item[name], options, place, problems)
    return found


def _values(
    kind: CheckKind, value: Any, options: Mapping[str, Any], where: str, problems: list[str]
) -> list[AnswerCheck]:
    """Return a check for a value; for a list of texts one for each, all of which count."""
    if "tolerance" in options and kind != "number":
        problems.append(f"{where}: tolerance belongs to the check 'number'")
    if kind == "number" and isinstance(value, str):
        with suppress(ValueError):  # reported below
            value = float(value)
    several = isinstance(value, list) and value and kind in ("contains", "not_contains", "regex")
    found: list[AnswerCheck] = []
    for one in value if several else [value]:
        try:
            found.append(AnswerCheck.model_validate({"kind": kind, "value": one, **options}))
        except ValidationError as error:
            problems += [f"{where}: {_reason(one)}" for one in error.errors(include_url=False)]
    return found


def _reason(detail: Any) -> str:
    raised = detail.get("ctx", {}).get("error")
    if isinstance(raised, Exception):
        return str(raised)
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}, found {detail['input']!r}"


def _kind(name: Any) -> CheckKind | None:
    plain = str(name).strip().lower().replace("-", "_")
    return _ALIASES.get(plain) or next((kind for kind in KINDS if kind == plain), None)


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(names)}"
