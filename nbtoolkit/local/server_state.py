"""The state of a local server: its processes, ports, owners and end, and the files that record them."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil
from filelock import FileLock, Timeout

from nbtoolkit.errors import ServerFailed
from nbtoolkit.utils.atomic_write import write_atomically

EndReason = Literal["it was stopped", "it ended by itself", "the notebook that started it ended"]

HOST = "127.0.0.1"
PORT_ATTEMPTS = 50
PORT_LOCKS = Path(tempfile.gettempdir()) / f"nbtoolkit-ports-{os.getuid() if hasattr(os, 'getuid') else ''}"
CLOCK_TOLERANCE = 2.0
"""Seconds that a process's start time may change if the system clock is adjusted."""


@dataclass(frozen=True)
class ProcessId:
    """A process by PID and start time in seconds since 1970, since PIDs are reused."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """Return the identity of a running process; raises :class:`psutil.Error`."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def current(cls) -> ProcessId:
        """Return the identity of this process."""
        return cls.of(os.getpid())

    def alive(self) -> bool:
        """Return whether exactly this process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CLOCK_TOLERANCE
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def terminate(self, *, kill: bool = False) -> None:
        """Send SIGTERM, or with ``kill`` SIGKILL, if this process still runs; on Windows kill it."""
        if self.alive():
            with suppress(psutil.Error):
                process = psutil.Process(self.pid)
                process.kill() if kill else process.terminate()


def terminate_group(leader: int, *, kill: bool = False) -> None:
    """Send SIGTERM, or with ``kill`` SIGKILL, to a process group; on Windows kill leader and children."""
    if os.name != "nt":
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL if kill else signal.SIGTERM)
        return
    with suppress(psutil.Error):
        process = psutil.Process(leader)
        for member in [*process.children(recursive=True), process]:
            with suppress(psutil.Error):
                member.kill()


def free_port(preferred: int) -> int:
    """Return ``preferred`` or the next free port; raises :class:`ServerFailed`."""
    for port in range(preferred, min(preferred + PORT_ATTEMPTS, 65536)):
        if port_is_free(port):
            return port
    raise ServerFailed(
        f"The ports {preferred} to {preferred + PORT_ATTEMPTS - 1} are all in use on this machine.",
        next_step="stop a server, or choose another range with LocalTarget(port=...)",
    )


def port_is_free(port: int) -> bool:
    """Return whether a server can listen on a port now, and no other launcher's server is about to."""
    with socket.socket() as probe:
        if os.name != "nt":  # as servers do: a port with closing connections counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            with port_lock(port).acquire(timeout=0):
                return True
        except (OSError, Timeout):
            return False


def port_lock(port: int) -> FileLock:
    """Return the lock that a launcher of this user holds while its server uses the port, or starts to."""
    PORT_LOCKS.mkdir(exist_ok=True)
    return FileLock(PORT_LOCKS / f"{port}.lock")


def listening_ports(server: ProcessId) -> set[int]:
    """Return the ports on which a server or one of its child processes listens."""
    try:
        process = psutil.Process(server.pid)
        processes = [process, *process.children(recursive=True)]
    except psutil.Error:
        return set()
    ports: set[int] = set()
    for one in processes:
        with suppress(psutil.Error):  # it ended meanwhile
            connections = one.net_connections(kind="tcp")
            ports |= {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}
    return ports


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
        with suppress(OSError, ValueError, TypeError, KeyError):  # missing, or of another version
            fields = json.loads(self.record.read_bytes())
            processes = {name: ProcessId(**fields[name]) for name in ("launcher", "server")}
            return ServerRecord(**fields | processes)
        return None

    def write_record(self, record: ServerRecord) -> None:
        """Replace the record atomically."""
        write_atomically(self.record, json.dumps(asdict(record)).encode())

    def read_owners(self) -> list[ProcessId]:
        """Return the owners, with which the server ends; an empty list: it is kept."""
        with suppress(OSError, ValueError, TypeError):
            return [ProcessId(**owner) for owner in json.loads(self.owners.read_bytes())]
        return []

    def write_owners(self, owners: list[ProcessId]) -> None:
        """Replace the owners."""
        write_atomically(self.owners, json.dumps([asdict(owner) for owner in owners]).encode())
