"""Files of golden prompts: all forms of a line, every defect with its line, and appending."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nbtoolkit.errors import BrokenFile, InvalidSettings
from nbtoolkit.golden.golden_file import add_golden, golden_sha256, read_golden
from nbtoolkit.golden.prompts import MAX_TOKENS, GoldenPrompt

GOOD = '{"prompt": "2 + 2 =", "must": {"number": 4}}'


def write(folder: Path, *lines: str, name: str = "golden.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def read_one(folder: Path, line: str) -> GoldenPrompt:
    (prompt,) = read_golden(write(folder, line))
    return prompt


def test_the_whole_form(tmp_path: Path) -> None:
    line = {
        "id": "a",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ],
        "system": "Be short.",
        "max_tokens": 7,
        "must": [{"contains": ["a", "b"], "ignore_case": True}, {"number": 3, "tolerance": 0.5}],
        "nice": {"regex": "^x", "not_contains": "y"},
        "expected": "a b 3",
    }
    prompt = read_one(tmp_path, json.dumps(line))
    assert (prompt.id, prompt.max_tokens, prompt.expected) == ("a", 7, "a b 3")
    assert [message.role for message in prompt.messages] == ["system", "user", "assistant", "user"]
    assert [check.to_json() for check in prompt.must] == [
        {"contains": "a", "ignore_case": True},
        {"contains": "b", "ignore_case": True},
        {"number": 3, "tolerance": 0.5},
    ]
    assert [check.kind for check in prompt.nice] == ["regex", "not_contains"]
    assert read_one(tmp_path, json.dumps(prompt.to_json())) == prompt


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        ('{"prompt": "p", "check": "contains", "expected": "x"}', "contains", "x"),
        ('{"prompt": "p", "check": "exact", "expected": "x"}', "exact", "x"),
        ('{"prompt": "p", "check": "equals", "expected": "x"}', "exact", "x"),
        ('{"prompt": "p", "check": "number", "expected": "1.5"}', "number", 1.5),
        ('{"prompt": "p", "check": "json"}', "json_schema", True),
        ('{"id": 3, "prompt": "p", "expected_contains": "x"}', "contains", "x"),
        ('{"prompt": "p", "expected_json_schema": {"type": "object"}}', "json_schema", {"type": "object"}),
    ],
)
def test_flat_forms(tmp_path: Path, line: str, kind: str, value: Any) -> None:
    prompt = read_one(tmp_path, line)
    assert [(check.kind, check.value) for check in prompt.must] == [(kind, value)]
    assert prompt.max_tokens == MAX_TOKENS
    assert prompt.expected == (value if kind == "exact" else None)


def test_byte_order_mark_crlf_blank_lines_and_default_ids(tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_bytes(f"\ufeff\r\n{GOOD}\r\n\r\n{GOOD}\r\n".encode())
    assert [prompt.id for prompt in read_golden(path)] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    "rows",
    [
        ["sep=;", "Prompt;Expected_Contains;max_tokens", "Hi, you;Paris;16"],  # Excel
        [",prompt,expected_contains,max_tokens", '0,"Hi, you",Paris,16.0'],  # pandas' to_csv
        ["prompt,expected_contains,max_tokens,", '"Hi, you",Paris,16,'],
    ],
)
def test_csv_of_other_programs(tmp_path: Path, rows: list[str]) -> None:
    (prompt,) = read_golden(write(tmp_path, *rows, name="golden.csv"))
    assert (prompt.id, prompt.question, prompt.max_tokens) == (f"line {len(rows)}", "Hi, you", 16)
    assert [check.to_json() for check in prompt.must] == [{"contains": "Paris"}]


def test_json_lines_of_pandas_have_null_for_a_missing_value(tmp_path: Path) -> None:
    line = '{"id": null, "prompt": "Hi", "max_tokens": 16.0, "expected_contains": "x", "nice": null}'
    (prompt,) = read_golden(write(tmp_path, line))
    assert (prompt.id, prompt.max_tokens, len(prompt.must)) == ("line 1", 16, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path: Path, delimiter: str) -> None:
    rows = [
        ["id", "prompt", "system", "max_tokens", "check", "expected", "tolerance", "nice"],
        ["a", '"Two\nlines, quoted"', "", "9", "number", "4", "0.5", ""],
        ["", "Hi", "Be short.", "", "contains", "x", "", '"{""exact"": ""x""}"'],
    ]
    first, second = read_golden(write(tmp_path, *map(delimiter.join, rows), name="golden.csv"))
    assert (first.id, first.question, first.max_tokens) == ("a", "Two\nlines, quoted", 9)
    assert [check.to_json() for check in first.must] == [{"number": 4.0, "tolerance": 0.5}]
    assert (second.id, second.expected, second.max_tokens) == ("line 4", "x", MAX_TOKENS)
    assert [message.role for message in second.messages] == ["system", "user"]
    assert [check.kind for check in (*second.must, *second.nice)] == ["contains", "exact"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "one JSON object in one line"),
        ("[1]", "wanted an object"),
        ('{"prompt": "p", "prompt": "q"}', "'prompt' appears twice"),
        ('{"promt": "p", "must": {"contains": "x"}}', "unknown key 'promt'; did you mean 'prompt'?"),
        ('{"must": {"contains": "x"}}', "either 'prompt' or 'messages'"),
        ('{"prompt": "p", "messages": [], "must": {"contains": "x"}}', "not both"),
        ('{"prompt": " ", "must": {"contains": "x"}}', "prompt must be text"),
        ('{"prompt": "p"}', "it has no check"),
        ('{"prompt": "p", "must": [], "nice": []}', "it has no check"),
        ('{"prompt": "p", "must": "x"}', "a check is an object"),
        ('{"prompt": "p", "must": {"tolerance": 1}}', "it has no check"),
        (
            '{"prompt": "p", "must": {"contain": "x"}}',
            "'contain'; did you mean 'contains'?",
        ),
        ('{"prompt": "p", "nice": [{"contains": "x"}, {"re": "x"}]}', "nice[2]: unknown check 're'"),
        ('{"prompt": "p", "check": "contians", "expected": "x"}', "did you mean 'contains'?"),
        ('{"prompt": "p", "check": "contains"}', "needs the key 'expected'"),
        ('{"prompt": "p", "must": {"regex": "(x"}}', "regex '(x' is not valid: missing )"),
        ('{"prompt": "p", "must": {"regex": ""}}', "every answer matches"),
        ('{"prompt": "p", "must": {"contains": ""}}', "contains needs text"),
        ('{"prompt": "p", "must": {"contains": 4}}', "found 4; write it in quotes"),
        ('{"prompt": "p", "must": {"number": "four"}}', "number needs a finite number"),
        ('{"prompt": "p", "must": {"number": NaN}}', "number needs a finite number"),
        ('{"prompt": "p", "must": {"number": 4, "tolerance": -1}}', "tolerance"),
        ('{"prompt": "p", "must": {"contains": "4", "tolerance": 1}}', "tolerance belongs to"),
        (
            '{"prompt": "p", "must": {"json_schema": {"type": "objekt"}}}',
            "not valid at $.type",
        ),
        ('{"prompt": "p", "must": {"json_schema": {"$ref": "#/$defs/x"}}}', "leads nowhere"),
        ('{"prompt": "p", "must": {"json_schema": {"$ref": "http://127.0.0.1:1/s"}}}', "leads nowhere"),
        ('{"prompt": "p", "must": {"json_schema": "object"}}', "json_schema needs an object"),
        ('{"prompt": "p", "max_tokens": 0, "must": {"contains": "x"}}', "max_tokens must be"),
        ('{"prompt": "p", "max_tokens": "9", "must": {"contains": "x"}}', "max_tokens must be"),
        ('{"messages": [{"role": "robot", "content": "x"}], "must": {"exact": "x"}}', "message 1: role"),
        ('{"messages": [{"role": "assistant", "content": "x"}], "must": {"exact": "x"}}', "'assistant'"),
        ('{"messages": "hi", "must": {"exact": "x"}}', "messages must be a list"),
        (
            '{"prompt": "hf_abcdefghijklmnopqrstuvwxyzabcdef", "must": {"exact": "x"}}',
            "a Hugging Face token",
        ),
    ],
)
def test_a_defect_is_named_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = write(tmp_path, GOOD, "", line)
    with pytest.raises(BrokenFile) as caught:
        read_golden(path)
    assert str(path) in caught.value.message
    assert "line 3: " in caught.value.message
    assert problem in caught.value.message
    assert "hf_" not in caught.value.message
    assert (caught.value.line, caught.value.path) == (3, path)


def test_all_defects_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, '{"promt": "p"}', GOOD, '{"id": "a", "prompt": "p", "must": {"exact": "x"}}',
                 '{"id": "a", "prompt": "p", "must": {"exact": "x"}}')  # fmt: skip
    with pytest.raises(BrokenFile) as caught:
        read_golden(path)
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == [
        "line 1",
        "line 1",
        "line 4",
    ]
    assert "the id 'a' is already in line 3" in caught.value.message


@pytest.mark.parametrize(
    ("rows", "line", "problem"),
    [
        (["prompt,chek,expected", "p,exact,x"], 1, "unknown key 'chek'; did you mean 'check'?"),
        (["prompt,check,check", "p,exact,x"], 1, "'check' appears twice"),
        (["prompt,check,expected", "p,exact,x", "Hello, you,exact,x"], 3, "4 cells, and the header has 3"),
        (["prompt,expected_contains", '"a\nb",x', '"open,x'], 4, "not valid CSV"),
        (["prompt,must", "p,Paris"], 2, "the cell of 'must' is not JSON"),
        (["prompt,check,expected", "p,regex,(x"], 2, "regex '(x' is not valid"),
        (["prompt,check,expected"], 1, "it has no prompts"),
    ],
)
def test_a_defect_in_csv_is_named_with_its_line(
    tmp_path: Path, rows: list[str], line: int, problem: str
) -> None:
    with pytest.raises(BrokenFile) as caught:
        read_golden(write(tmp_path, *rows, name="set.csv"))
    assert problem in caught.value.message
    assert len(caught.value.problems) == 1
    assert caught.value.line == line


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe{"])
def test_a_file_without_prompts_or_of_another_encoding(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_bytes(content)
    with pytest.raises(BrokenFile, match=r"no prompts|not UTF-8"):
        read_golden(path)


def test_the_identity_does_not_depend_on_the_layout(tmp_path: Path) -> None:
    one = read_golden(write(tmp_path, GOOD))
    other = read_golden(write(tmp_path, GOOD.replace(", ", ",   ")))
    changed = read_golden(write(tmp_path, GOOD.replace("4", "5")))
    assert golden_sha256(one) == golden_sha256(other) != golden_sha256(changed)


def test_add_creates_and_appends(tmp_path: Path) -> None:
    add_golden(tmp_path, {"prompt": "Grüß Gott", "must": {"contains": "Gott"}})
    path = tmp_path / "golden.jsonl"
    path.write_bytes(path.read_bytes().rstrip())  # an editor may leave out the last line's end
    add_golden(path, '{"id": "b", "prompt": "q", "must": {"exact": "x"}}\n')
    assert [prompt.question for prompt in read_golden(path)] == ["Grüß Gott", "q"]
    assert "Grüß" in path.read_text(encoding="utf-8")
    with pytest.raises(InvalidSettings, match=r"already has .* 'b'"):
        add_golden(path, {"id": "b", "prompt": "r", "must": {"exact": "x"}})


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    def add(name: str) -> None:
        for number in range(10):
            add_golden(tmp_path, {"id": f"{name}{number}", "prompt": "p", "must": {"exact": "x"}})

    threads = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_golden(tmp_path / "golden.jsonl")) == 20


def test_a_secret_or_invalid_prompt_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", 'quoted"secret-value')
    for text in ("my s3cret-key", 'see quoted"secret-value', "-----BEGIN RSA PRIVATE KEY-----"):
        with pytest.raises(InvalidSettings, match="contains") as caught:
            add_golden(tmp_path, {"prompt": text, "must": {"exact": "x"}}, secrets=[SecretStr("s3cret-key")])
        assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidSettings, match="not a golden prompt: expecting"):
        add_golden(tmp_path, "{")
    with pytest.raises(InvalidSettings, match="no check"):
        add_golden(tmp_path, {"prompt": "p"})
    with pytest.raises(InvalidSettings, match="CSV"):
        add_golden(tmp_path / "a.csv", {"prompt": "p", "must": {"exact": "x"}})
    assert list(tmp_path.iterdir()) == []
