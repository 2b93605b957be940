"""Drive the model level's process: it ends with the kernel or a cancel, and takes nobody along."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from nbtoolkit.errors import SmokeTestFailed
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.model_level.messages import Done, Message, Phase, ProblemMessage, Task, parse

_COMMAND = (sys.executable, "-m", "nbtoolkit.smoke.model_level")
_LAST_LINES = 15


def model_level(
    task: Task, progress: Progress, timeout: float, command: tuple[str, ...] = _COMMAND
) -> Iterator[Message]:
    """Yield what the model level's process finds; phases go to ``progress``.

    Raises :class:`SmokeTestFailed` with its last lines where it crashes, runs out of memory or takes longer
    than ``timeout`` seconds, and ``Cancelled`` within half a second of a cancel; the process is gone then.
    """
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryFile() as stderr, _process(command, stderr) as process:
        lines = _lines(process)
        _send(process, task)
        shown = ""
        while True:
            progress.check()
            if time.monotonic() > deadline:
                raise SmokeTestFailed(
                    f"The model level took over {timeout:g} s and was ended while {shown or 'starting'}.",
                    next_step="give a larger timeout, or test on a machine with a GPU",
                    phase=shown,
                )
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                raise _died(process, stderr, shown)
            match _parsed(line, process, stderr):
                case Done():
                    return
                case ProblemMessage(text=text, next_step=next_step):
                    raise SmokeTestFailed(f"The model level cannot go on. {text}", next_step=next_step)
                case Phase(text=text, done=done, total=total):
                    if text != shown:
                        progress.phase(f"Smoke test: {text}")
                        shown = text
                    if done is not None:
                        progress.advance(done, total)
                case message:
                    yield message


@contextmanager
def _process(command: tuple[str, ...], stderr: IO[bytes]) -> Generator[subprocess.Popen[bytes]]:
    """Start the process in a session of its own, so that ■ reaches it only through us; end it on leaving."""
    package_home = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        # threads that spin while they wait for each other take the CPU from one another as soon as anything
        # else runs: measured on two busy cores, a pass takes 3.4 s so and 0.3 s when they sleep
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "PYTHONPATH": f"{package_home}{os.pathsep}{inherited}" if inherited else package_home,
        "HF_HUB_OFFLINE": "1",  # everything is local; nothing waits for a network
        "TOKENIZERS_PARALLELISM": "false",
    }
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
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


def _send(process: subprocess.Popen[bytes], task: Task) -> None:
    """Write the task; the pipe stays open, since the process ends when it closes."""
    pipe = process.stdin
    if pipe is None:
        return
    with suppress(BrokenPipeError):  # it died already, which its output's end tells
        pipe.write(task.model_dump_json().encode() + b"\n")
        pipe.flush()


def _lines(process: subprocess.Popen[bytes]) -> queue.Queue[bytes | None]:
    """Return the process's lines as they come, None at their end."""
    found: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        if process.stdout:
            with suppress(ValueError):  # closed under us: the workflow is over
                for line in process.stdout:
                    found.put(line)
        found.put(None)

    threading.Thread(target=read, daemon=True, name="smoke-model-level").start()
    return found


def _parsed(line: bytes, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> Message:
    try:
        return parse(line)
    except ValidationError as error:
        raise SmokeTestFailed(
            f"The model level said something unreadable: {line[:200]!r}{_tail(stderr)}",
            next_step="report this, with these lines",
            returncode=process.poll(),
        ) from error


def _died(process: subprocess.Popen[bytes], stderr: IO[bytes], phase: str) -> SmokeTestFailed:
    status = process.wait()
    how = f"ended with exit status {status}"
    next_step = "see its last lines; where they name no cause, run the smoke test again"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        how = f"was killed by {name}"
        if -status == signal.SIGKILL:
            how += ", as the system does when memory runs out"
            next_step = "free memory, or take quantization='nf4', a smaller base or a larger machine"
    return SmokeTestFailed(
        f"The model level's process {how} while {phase or 'starting'}.{_tail(stderr)}",
        next_step=next_step,
        returncode=status,
        phase=phase,
    )


def _tail(stderr: IO[bytes]) -> str:
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - 20_000))
    lines = stderr.read().decode("utf-8", "replace").rstrip().splitlines()[-_LAST_LINES:]
    return "\n  " + "\n  ".join(lines) if lines else " It left no message."
