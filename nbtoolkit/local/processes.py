"""Identify, terminate and kill processes."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass

import psutil

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

    def terminate(self) -> None:
        """Send SIGTERM, if this process still runs; on Windows kill it."""
        if self.alive():
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).terminate()

    def kill(self) -> None:
        """Kill this process, if it still runs."""
        if self.alive():
            with contextlib.suppress(psutil.Error):
                psutil.Process(self.pid).kill()


def terminate_group(leader: int) -> None:
    """Send SIGTERM to all processes of a group; on Windows kill its leader and its children."""
    if os.name == "nt":
        _kill_tree(leader)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGTERM)


def kill_group(leader: int) -> None:
    """Kill all processes of a group; on Windows its leader and its children."""
    if os.name == "nt":
        _kill_tree(leader)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def _kill_tree(leader: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(leader)
        for member in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                member.kill()
