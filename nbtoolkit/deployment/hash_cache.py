"""Cache the sha256 of adapters, so that a deploy does not read an unchanged one again."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nbtoolkit.errors import StoreError
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.workspace import Workspace

MAX_ENTRIES = 200
MIN_AGE = 2.0
"""Seconds after a change until another change is sure to alter a file's timestamps."""


def use_cached_sha256(adapter: Adapter, workspace: Workspace, *, min_age: float = MIN_AGE) -> None:
    """Set the adapter's sha256 from the cache if its files are unchanged, else compute and cache it.

    Files are unchanged if size, inode and both timestamps are. Files that are sent are hashed again on
    upload and by the server. Files younger than ``min_age`` seconds are not cached.
    """
    path = workspace.state / "adapter-hashes.json"
    known = _read(path)
    key, mark = str(adapter.path), _mark(adapter)
    found = known.get(key)
    if found and found.get("mark") == mark:
        adapter.__dict__["sha256"] = found["sha256"]  # where cached_property stores it
        return
    sha256 = adapter.sha256
    newest = max(max(file.stat().st_mtime, file.stat().st_ctime) for file in adapter.files)
    if mark != _mark(adapter) or time.time() - newest < min_age:
        return
    known.pop(key, None)
    known[key] = {"mark": mark, "sha256": sha256}
    with suppress(StoreError):  # a full disk must not fail this deploy
        write_atomically(path, json.dumps(dict(list(known.items())[-MAX_ENTRIES:])).encode())


def _mark(adapter: Adapter) -> list[list[Any]]:
    marks: list[list[Any]] = []
    for name, file in sorted(adapter.named_files.items()):
        stat = file.stat()
        marks.append([name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns])
    return marks


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
