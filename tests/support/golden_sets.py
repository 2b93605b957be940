"""Golden files next to adapters: a set that the adapter fails, and one that cannot fail."""

from __future__ import annotations

import json
from pathlib import Path


def golden_that_fails(adapter: Path) -> Path:
    """Write a golden prompt whose ``must`` no answer of a random model passes; G5 fails."""
    return _write(adapter, {"prompt": "What is the capital of France?", "must": {"exact": "It is Paris."}})


def golden_that_cannot_fail(adapter: Path) -> Path:
    """Write a golden prompt that every answer passes; G5 warns."""
    return _write(adapter, {"prompt": "Hello", "max_tokens": 4, "must": {"regex": "(?s).*"}})


def _write(adapter: Path, line: dict[str, object]) -> Path:
    path = adapter / "golden.jsonl"
    path.write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    return path
