"""Identify and signal the processes of a server, and find the ports on which they listen."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

import psutil

from nbtoolkit.errors import ServerFailed

HOST = "127.0.0.1"
PORT_ATTEMPTS = 50
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
    """Return whether a server can listen on a port now."""
    with socket.socket() as probe:
        if os.name != "nt":  # as servers do: a port with closing connections counts as free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


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
