"""The folder that everything is relative to: ``infra/``, adapters, model cache and state."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbtoolkit.errors import Busy, StoreError, WorkspaceNotFound
from nbtoolkit.utils.atomic_write import write_atomically

STATE = ".nbtoolkit"
_MARKS = ("infra", STATE)


@dataclass(frozen=True)
class Workspace:
    """A folder that holds ``infra/``, adapters, model cache and ``.nbtoolkit/``.

    ``root`` becomes an absolute path. Raises :class:`WorkspaceNotFound` if it is not a folder.

    >>> workspace = Workspace.find()
    >>> workspace.path("adapters/tone").is_dir()
    True
    """

    root: Path

    def __post_init__(self) -> None:
        root = Path(self.root).expanduser().absolute()
        if not root.is_dir():
            raise WorkspaceNotFound(
                f"{root} is not a folder.",
                next_step="give an existing folder, or use Workspace.find() inside one",
                start=root,
            )
        object.__setattr__(self, "root", root)

    @classmethod
    def find(cls, start: Path | str | None = None) -> Workspace:
        """Return the nearest workspace upwards of ``start``, by default of the working directory.

        A workspace is a folder that holds ``infra/`` or ``.nbtoolkit/``; an AI Toolkit project is one.
        Raises :class:`WorkspaceNotFound`.
        """
        first = Path(start).expanduser().absolute() if start is not None else Path.cwd()
        for folder in (first, *first.parents):
            if any((folder / mark).is_dir() for mark in _MARKS):
                return cls(folder)
        raise WorkspaceNotFound(
            f"No folder from {first} upwards holds infra/ or {STATE}/.",
            next_step=f"go into your project, or make this folder one with: mkdir {first / STATE}",
            start=first,
        )

    def path(self, relative: Path | str) -> Path:
        """Return an absolute path; a relative one starts at the workspace, ``~`` is the home folder."""
        return Path(os.path.normpath(self.root / Path(relative).expanduser()))

    @property
    def state(self) -> Path:
        """The folder ``.nbtoolkit``, created on first use and never committed; it holds no secret values."""
        folder = _made(self.root / STATE)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            with _writing(ignore):
                ignore.write_text("*\n", encoding="utf-8")
        return folder

    @property
    def reports(self) -> Path:
        """The folder of the smoke reports."""
        return _made(self.state / "reports")

    @property
    def cache(self) -> Path:
        """The folder of files that can be created again, such as dequantised models."""
        return _made(self.state / "cache")

    @contextmanager
    def lock(self, step: str, *, target: str = "local") -> Generator[None]:
        """Hold this workspace and ``target`` for one operation named ``step``.

        Raises :class:`Busy`, with ``pid``, ``step``, ``since`` and ``target`` of the holder, at once. The
        operating system releases the lock of a killed process; a note next to it names the holder.
        """
        from filelock import FileLock, Timeout  # late: most uses of a workspace need no lock

        folder = _made(self.state / "locks")
        stem = _file_stem(target)
        lock = FileLock(folder / f"{stem}.lock", thread_local=False)
        note = folder / f"{stem}.json"
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _busy(step, target, _holder(note)) from None
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"pid": os.getpid(), "step": step, "since": since}
            write_atomically(note, json.dumps(holder).encode())
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()

    def __str__(self) -> str:
        return f"workspace {self.root}"


def _made(folder: Path) -> Path:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.",
            next_step="make the workspace writable and keep some disk space free",
            path=path,
        ) from error


def _file_stem(target: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "-", target)
    if plain == target and target.strip("."):
        return target
    return f"{plain.strip('.')[:60]}-{hashlib.sha256(target.encode()).hexdigest()[:8]}"


def _holder(note: Path) -> dict[str, Any]:
    """Return the holder's note, empty if unknown; wait shortly for a holder that has not written it yet."""
    import psutil

    for _ in range(20):
        try:
            holder = json.loads(note.read_text(encoding="utf-8"))
            if psutil.pid_exists(int(holder["pid"])):
                return holder
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing, or left by a killed holder: the current one is about to write
        time.sleep(0.01)
    return {}


def _busy(step: str, target: str, holder: dict[str, Any]) -> Busy:
    who = "another process holds it"
    if holder:
        who = f"process {holder['pid']} runs {holder.get('step')!r} since {holder.get('since')}"
    return Busy(
        f"Cannot start {step!r} on target {target!r} of this workspace: {who}.",
        next_step="wait for it or cancel it where it runs, then run this step again",
        step=str(holder.get("step", "")),
        target=target,
        pid=int(holder["pid"]) if holder else None,
        since=str(holder.get("since", "")) if holder else None,
    )
