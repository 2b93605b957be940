"""Free ports, and processes of a local target."""

from __future__ import annotations

import os
import socket

import psutil

from nbtoolkit import LocalTarget


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gone(pid: int) -> bool:
    """Return whether a process has ended, even if its exit code was not read."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_of(target: LocalTarget) -> list[int]:
    """Return the processes whose command line names the target's root: launchers and servers."""
    found: list[int] = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(target.root) in line and process.pid != os.getpid():
            found.append(process.pid)
    return found
