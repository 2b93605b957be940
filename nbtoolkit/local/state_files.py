"""The state files of a local server: its processes, port, owners and end."""

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
    """One start of the server, written by its launcher.

    ``port`` is the requested port, ``started`` is in seconds since 1970. ``reason`` is set once a stop is
    requested, ``exit_code`` at the end.
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
        """Whether launcher and server are alive and no stop was requested."""
        return self.reason is None and self.launcher.alive() and self.server.alive()

    @property
    def writes_log(self) -> bool:
        """Whether more lines may follow: the launcher writes the exit code after its last line."""
        return self.exit_code is None and self.launcher.alive()


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
        """Return every file that nbtoolkit creates here, older logs too; without those on the share."""
        created = [self.key, self.record, self.owners, self.launcher_log, self.lock, self.server_lock]
        return [*created, *self.root.glob(f"{self.log.name}*")]

    def read_record(self) -> ServerRecord | None:
        """Return the record of the last start, None if it is missing or not readable."""
        fields = _read_json(self.record)
        try:
            processes = {name: ProcessId(**fields.pop(name)) for name in ("launcher", "server")}
            return ServerRecord(**processes, **fields)
        except (TypeError, KeyError, AttributeError):  # missing, or of another version
            return None

    def write_record(self, record: ServerRecord) -> None:
        """Replace the record atomically."""
        _write_json(self.record, asdict(record))

    def read_owners(self) -> list[ProcessId]:
        """Return the owners, with which the server ends; an empty list: it is kept."""
        try:
            return [ProcessId(**owner) for owner in _read_json(self.owners) or []]
        except TypeError:
            return []

    def write_owners(self, owners: list[ProcessId]) -> None:
        """Replace the owners."""
        _write_json(self.owners, [asdict(owner) for owner in owners])


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content).encode())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
