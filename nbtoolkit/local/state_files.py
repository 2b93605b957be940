"""What is remembered of a local server: which processes, on which port, and how it ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nbtoolkit.local.processes import ProcessId
from nbtoolkit.utils.atomic_write import write_atomically

EndReason = Literal["it was stopped", "it ended by itself", "the notebook that started it ended"]


@dataclass(frozen=True)
class ServerRecord:
    """One start of the server; written by its launcher, read by everyone.

    ``port`` is where it was told to listen, ``started`` is in seconds since 1970. ``reason`` is there from
    the moment that the end was asked for, ``exit_code`` from the end on.
    """

    launcher: ProcessId
    server: ProcessId
    kind: Literal["nbtoolkit", "own"]
    port: int
    code: str
    started: float
    exit_code: int | None = None
    reason: EndReason | None = None

    @property
    def running(self) -> bool:
        """Whether launcher and server live, and nobody has asked them to end."""
        return self.reason is None and self.launcher.alive() and self.server.alive()


class StateFiles:
    """The files of a local target's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.share = root / "share"
        self.key = root / "api-key"
        self.record = root / "server.json"
        self.owners = root / "owners.json"
        self.log = root / "server.log"
        self.launcher_log = root / "launcher.log"
        self.lock = root / "lock"
        self.server_lock = root / "server.lock"
        self.work = root / "work"

    def all_files(self) -> list[Path]:
        """Return every file that nbtoolkit makes here, older logs too; the share's are not among them."""
        made = [self.key, self.record, self.owners, self.launcher_log, self.lock, self.server_lock]
        return [*made, *self.root.glob(f"{self.log.name}*")]

    def read_record(self) -> ServerRecord | None:
        """Return the last start, None if there was none or its record is not readable."""
        found = _read_json(self.record)
        try:
            processes = {name: ProcessId(**found.pop(name)) for name in ("launcher", "server")}
            return ServerRecord(**processes, **found)
        except (TypeError, KeyError, AttributeError):  # nothing there, or of another version
            return None

    def write_record(self, record: ServerRecord) -> None:
        """Replace the record at once."""
        _write_json(self.record, asdict(record))

    def read_owners(self) -> list[ProcessId]:
        """Return the processes with which the server ends; none: it ends with nobody."""
        try:
            return [ProcessId(**one) for one in _read_json(self.owners) or []]
        except TypeError:
            return []

    def write_owners(self, owners: list[ProcessId]) -> None:
        """Name the processes with which the server ends."""
        _write_json(self.owners, [asdict(one) for one in owners])


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content).encode())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
