"""Processes of a local target, and a wait for conditions about them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from nbtoolkit import LocalTarget


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait until a condition holds; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


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
