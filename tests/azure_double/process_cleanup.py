"""A process that outlives a test run that was killed, to end the remaining containers of that run."""

from __future__ import annotations

import subprocess
import sys
import threading

from .containers import MARK

PROGRAM = """
import os, signal, sys
wanted = sys.argv[1].encode()
sys.stdin.read()  # until the test's process ends, however it ends
for _ in range(20):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                if wanted in environ.read():
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
"""


class ProcessCleanup:
    """A process that kills all containers with a mark once the test's process has ended."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Start the process at the first call."""
        with self._lock:
            if self._process is None and sys.platform == "linux":
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", PROGRAM, f"{MARK}={self._mark}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env={},
                )

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            if self._process:
                self._process.kill()
                self._process.communicate()
