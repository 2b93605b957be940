"""Remember the hashes of adapters, so that a deploy of an unchanged large one does not read it again."""

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

KEPT = 200
_SETTLED = 2.0
"""Seconds after a change until a file's times are sure to tell another change apart."""


def use_cached_sha256(adapter: Adapter, workspace: Workspace) -> None:
    """Give an adapter the sha256 that was computed for these very files, else compute and remember it.

    Files are the same where size, inode and both times are; only what is sent is ever trusted to it, and
    that is hashed again on its way and by the server.
    """
    path = workspace.state / "adapter-hashes.json"
    known = _read(path)
    key, mark = str(adapter.path), _mark(adapter)
    found = known.get(key)
    if found and found.get("mark") == mark:
        adapter.__dict__["sha256"] = found["sha256"]  # the place where cached_property keeps it
        return
    sha256 = adapter.sha256
    newest = max(max(file.stat().st_mtime, file.stat().st_ctime) for file in adapter.files)
    if mark != _mark(adapter) or time.time() - newest < _SETTLED:
        return
    known.pop(key, None)
    known[key] = {"mark": mark, "sha256": sha256}
    with suppress(StoreError):  # a full disk costs the next deploy some reading, and not this one its success
        write_atomically(path, json.dumps(dict(list(known.items())[-KEPT:])).encode())


def _mark(adapter: Adapter) -> list[list[Any]]:
    marks: list[list[Any]] = []
    for name, file in sorted(adapter.named_files.items()):
        about = file.stat()
        marks.append([name, about.st_size, about.st_ino, about.st_mtime_ns, about.st_ctime_ns])
    return marks


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
