"""Read golden prompts from JSONL or CSV, and append one; errors name the file and the line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import SecretStr

from nbtoolkit.errors import BrokenFile, InvalidSettings
from nbtoolkit.golden.prompt_parser import InvalidPrompt, parse_prompt, unknown_key
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.golden.secret_patterns import find_secret
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.json_file import parse_object, read_text

GOLDEN_FILE = "golden.jsonl"
"""The file next to an adapter that is read if the settings name none."""

_Line = tuple[int, Mapping[str, Any]]
_MAX_PROBLEMS = 20
_JSON_CELLS = ("messages", "must", "nice")


def golden_sha256(prompts: Sequence[GoldenPrompt]) -> str:
    """Return the identity of a set of prompts and checks; spaces and key order in the file do not matter."""
    lines = [json.dumps(prompt.model_dump(mode="json"), sort_keys=True) for prompt in prompts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_golden(path: Path) -> tuple[GoldenPrompt, ...]:
    """Return the golden prompts of a file: CSV if its name ends with ``.csv``, else JSONL.

    Raises :class:`BrokenFile` with all defects, each with its line; ``line`` is the first one's.
    """
    text = read_text(path).removeprefix("\ufeff")
    problems: list[tuple[int, str]] = []
    prompts: dict[str, tuple[int, GoldenPrompt]] = {}
    is_csv = path.suffix.lower() == ".csv"
    for number, line in _csv_lines(text, problems) if is_csv else _json_lines(text, path, problems):
        try:
            prompt = parse_prompt(line, f"line {number}")
        except InvalidPrompt as error:
            problems += [(number, problem) for problem in error.problems]
            continue
        if secret := find_secret(json.dumps(line, ensure_ascii=False)):
            problems.append((number, f"it contains {secret}; golden prompts are sent with a release"))
        if prompt.id in prompts:
            problems.append((number, f"the id {prompt.id!r} is already in line {prompts[prompt.id][0]}"))
        prompts[prompt.id] = number, prompt
    if not prompts and not problems:
        problems.append((1, "it has no prompts"))
    if problems:
        raise _broken(path, sorted(problems))
    return tuple(prompt for _, prompt in prompts.values())


def add_golden(
    path: Path | str, prompt: GoldenPrompt | Mapping[str, Any] | str, *, secrets: Iterable[SecretStr] = ()
) -> GoldenPrompt:
    """Append a golden prompt to a JSONL file, which is created if it does not exist, and return it.

    ``path`` is the file, or the folder of an adapter. ``prompt`` has the keys of a line of the file, or is
    such a line as text, as the chat page shows it. The file is replaced atomically.

    Raises :class:`InvalidSettings` if the prompt is not valid or contains a secret: one of ``secrets``, the
    value of a variable such as ``HF_TOKEN``, or a common token; :class:`BrokenFile` if the existing file is
    not valid.

    >>> add_golden("adapters/tone", {"prompt": "I won!", "must": {"contains": "joy"}}).question
    'I won!'
    """
    path = Path(path)
    file = path / GOLDEN_FILE if path.is_dir() else path
    if file.suffix.lower() == ".csv":
        raise InvalidSettings(
            f"{file} is a CSV file; golden prompts are appended to JSONL only.",
            next_step=f"give another file, such as {GOLDEN_FILE}",
        )
    try:
        line = _line_of(prompt, file)
        parsed = parse_prompt(line)
    except (InvalidPrompt, BrokenFile) as error:
        raise InvalidSettings(
            f"This is not a golden prompt: {error.problem if isinstance(error, BrokenFile) else error}.",
            next_step="correct it and add it again",
            problems=error.problems,
        ) from None
    content = json.dumps(line, ensure_ascii=False)
    if secret := find_secret(content, secrets) or find_secret("\n".join(_texts(line)), secrets):
        raise InvalidSettings(
            f"The golden prompt contains {secret}, and golden prompts are sent with a release.",
            next_step="remove it from the prompt and the checks",
        )
    with FileLock(file.with_name(f".{file.name}.lock")):
        _append(file, parsed, content)
    return parsed


def _line_of(prompt: GoldenPrompt | Mapping[str, Any] | str, file: Path) -> dict[str, Any]:
    if isinstance(prompt, str):
        return parse_object(prompt.strip(), file)
    return prompt.to_json() if isinstance(prompt, GoldenPrompt) else dict(prompt)


def _append(file: Path, prompt: GoldenPrompt, content: str) -> None:
    before = ""
    if file.exists():
        before = read_text(file)
        ids = {one.id for one in read_golden(file)} if before.strip("\ufeff \r\n") else set[str]()
        if prompt.id in ids:
            raise InvalidSettings(
                f"{file} already has a golden prompt with the id {prompt.id!r}.",
                next_step="choose another id, or leave it out",
            )
        if before and not before.endswith("\n"):
            before += "\n"
    write_atomically(file, f"{before}{content}\n".encode())


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts of a JSON value, without JSON's escapes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _json_lines(text: str, path: Path, problems: list[tuple[int, str]]) -> Iterator[_Line]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, parse_object(line.strip(), path)
        except BrokenFile as error:
            hint = ""
            if line.strip() in ("{", "["):
                hint = "; each prompt must be one JSON object in one line"
            problems.append((number, f"column {error.column}: {error.problem}{hint}"))


def _csv_lines(text: str, problems: list[tuple[int, str]]) -> Iterator[_Line]:
    header, _, rest = text.partition("\n")
    before = 0
    if stated := re.fullmatch(r"sep=(.)\r?", header):  # as Excel writes it
        text, before = rest, 1
    delimiter = stated[1] if stated else max(",;\t", key=header.count)
    first = before
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for row in reader:
            number, before = before + 1, first + reader.line_num
            if not names:
                names = [name.strip().lower() for name in row]
                twice = [name for name in dict.fromkeys(names) if name and names.count(name) > 1]
                wrong = [
                    *map(unknown_key, filter(None, names)),
                    *(f"the column {name!r} appears twice" for name in twice),
                ]
                problems += [(number, problem) for problem in wrong if problem]
                if any(wrong):
                    return
            elif len(row) > len(names):
                text = f"it has {len(row)} cells, and the header has {len(names)}"
                problems.append((number, f"{text}; quote text that contains {delimiter!r}"))
            elif lost := [cell for name, cell in zip(names, row, strict=False) if not name and _says(cell)]:
                problems.append((number, f"the cell {lost[0]!r} is in a column without a name"))
            elif cells := {
                name: cell for name, cell in zip(names, row, strict=False) if name and cell.strip()
            }:
                bad = len(problems)
                line = _typed_cells(cells, number, problems)
                if len(problems) == bad:
                    yield number, line
    except csv.Error as error:
        problems.append((before + 1, f"it is not valid CSV: {error}"))


def _says(cell: str) -> bool:
    """Whether a cell is more than an index, which pandas writes in a column without a name."""
    return bool(cell.strip()) and not cell.strip().isdigit()


def _typed_cells(cells: Mapping[str, str], number: int, problems: list[tuple[int, str]]) -> dict[str, Any]:
    """Return a row with the values that the keys need: numbers, JSON, texts."""
    typed: dict[str, Any] = dict(cells)
    structured = {"expected_json_schema", *_JSON_CELLS, "max_tokens", "tolerance", "ignore_case"}
    if cells.get("check") in ("json_schema", "json", "schema"):
        structured.add("expected")
    for name in structured & cells.keys():
        try:
            typed[name] = json.loads(cells[name].strip().lower() if name == "ignore_case" else cells[name])
        except ValueError as error:
            problems.append((number, f"the cell of {name!r} is not JSON: {error}"))
    return typed


def _broken(path: Path, problems: list[tuple[int, str]]) -> BrokenFile:
    listed = [f"line {number}: {problem}" for number, problem in problems[:_MAX_PROBLEMS]]
    if rest := len(problems) - len(listed):
        listed.append(f"and {rest} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return BrokenFile(
        f"{path} has {count}:\n  " + "\n  ".join(listed),
        next_step=f"correct line {problems[0][0]} of {path.name}",
        path=path,
        line=problems[0][0],
        problem=problems[0][1],
        problems=tuple(f"line {number}: {problem}" for number, problem in problems),
    )
