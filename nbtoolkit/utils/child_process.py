"""Run a child process that ends with its caller: on a cancel, an error or a return."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import IO, Any

from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import start_daemon

EXIT_POLL = 0.1
"""Seconds between two checks whether the process has ended."""


@contextmanager
def child_process(command: Sequence[str], **options: Any) -> Generator[subprocess.Popen[bytes]]:
    """Start ``command`` with the options of ``subprocess.Popen``; kill it and close its pipes on exit.

    It gets a session of its own: an interrupt in the notebook does not reach it, and its children are
    killed with it.
    """
    process: subprocess.Popen[Any] = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


def run_child(
    command: Sequence[str], progress: Progress, *, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run ``command`` to its end; return its exit status and what it wrote to stdout and stderr.

    Raises :class:`Cancelled` at once on a cancel; the process is killed before that.
    """
    with tempfile.TemporaryFile() as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        with child_process(command, env=env, **streams) as process:
            progress.wait_until(lambda: process.poll() is not None, interval=EXIT_POLL)
        output.seek(0)
        return process.returncode, output.read().decode("utf-8", "replace")


def read_lines(pipe: IO[bytes], name: str) -> SimpleQueue[bytes | None]:
    """Return a queue that receives the lines of a pipe as they arrive, and None at its end."""
    lines: SimpleQueue[bytes | None] = SimpleQueue()

    def read() -> None:
        with suppress(ValueError):  # the pipe was closed: the caller has ended
            for line in pipe:
                lines.put(line)
        lines.put(None)

    start_daemon(read, name=name)
    return lines
