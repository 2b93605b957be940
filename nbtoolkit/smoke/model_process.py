"""Run the model level in a child process, which ends with the kernel, a cancel or a timeout."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from nbtoolkit.errors import SmokeTestFailed
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.check import Check, exception_finding
from nbtoolkit.smoke.model_level.messages import (
    DoneMessage,
    Message,
    ModelTask,
    PhaseMessage,
    ProblemMessage,
    parse,
)
from nbtoolkit.utils.child_process import child_process, read_lines

MODEL_CHECKS = {
    "A3": "config",
    "A4": "base match",
    "G1": "load",
    "G2": "effect",
    "G3": "template, stop",
    "G4": "sanity",
    "G5": "golden prompts",
    "G6": "budget",
    "G8": "precision",
}
"""Id → title of the checks in ``model_level``, whose modules import torch; a test compares the two."""

_COMMAND = (sys.executable, "-m", "nbtoolkit.smoke.model_level")
_LAST_LINES = 15
_POLL = 0.2


def run_model_level(
    task: ModelTask, progress: Progress, timeout: float, command: tuple[str, ...] = _COMMAND
) -> Iterator[Message]:
    """Yield the results of the model level's process; phases are reported to ``progress``.

    Raises :class:`SmokeTestFailed` with its last lines if it crashes, runs out of memory or takes longer
    than ``timeout`` seconds, and ``Cancelled`` within half a second of a cancel; the process is killed then.
    """
    deadline = time.monotonic() + timeout
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tempfile.TemporaryFile() as stderr,
        child_process(command, stderr=stderr, env=_environment(), **pipes) as process,
    ):
        assert process.stdin
        assert process.stdout
        lines = read_lines(process.stdout, "smoke-model-level")
        with suppress(BrokenPipeError):  # it exited already; the end of its output reports that
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            process.stdin.flush()  # the pipe stays open, because the process ends when it closes
        phase = ""
        while True:
            progress.check()
            if time.monotonic() > deadline:
                raise SmokeTestFailed(
                    f"The model level took over {timeout:g} s and was ended while {phase or 'starting'}.",
                    next_step="give a larger timeout, or test on a machine with a GPU",
                    phase=phase,
                )
            try:
                line = lines.get(timeout=_POLL)
            except queue.Empty:
                continue
            if line is None:
                raise _exit_error(process, stderr, phase)
            match _parse(line, process, stderr):
                case DoneMessage():
                    return
                case ProblemMessage(text=text, next_step=next_step):
                    raise SmokeTestFailed(f"The model level cannot continue. {text}", next_step=next_step)
                case PhaseMessage(text=text, done=done, total=total):
                    if text != phase:
                        progress.phase(f"Smoke test: {text}")
                        phase = text
                    if done is not None:
                        progress.advance(done, total)
                case message:
                    yield message


def failed_model_check(id: str, error: Exception) -> Check:
    """Return the finding that the process ended while the check ``id`` was running."""
    found = exception_finding(error)
    summary, *output = found.summary.splitlines()
    return Check(
        id=id,
        level="model",
        title=MODEL_CHECKS[id],
        verdict="fail",
        summary=summary,
        evidence={**found.evidence, "output": output},
        remedy=found.remedy,
    )


def skipped_model_checks(reason: str) -> list[Check]:
    """Return the model level's checks as not run."""
    return [
        Check(id=id, level="model", title=title, verdict="skipped", summary=f"skipped: {reason}")
        for id, title in MODEL_CHECKS.items()
        if id != "A3"  # the static level nearly always decides it
    ]


def _environment() -> dict[str, str]:
    package_home = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    return {
        # Threads that spin while they wait for each other take the CPU from one another if anything else
        # runs: measured on two busy cores, a forward pass takes 3.4 s with spinning and 0.3 s with sleeping.
        "OMP_WAIT_POLICY": "passive",
        **os.environ,
        "PYTHONPATH": f"{package_home}{os.pathsep}{inherited}" if inherited else package_home,
        "HF_HUB_OFFLINE": "1",  # all files are local; no network timeout
        "TOKENIZERS_PARALLELISM": "false",
    }


def _parse(line: bytes, process: subprocess.Popen[bytes], stderr: IO[bytes]) -> Message:
    try:
        return parse(line)
    except ValidationError as error:
        raise SmokeTestFailed(
            f"The model level wrote a line that is not a message: {line[:200]!r}{_last_lines(stderr)}",
            next_step="report this, with these lines",
            returncode=process.poll(),
        ) from error


def _exit_error(process: subprocess.Popen[bytes], stderr: IO[bytes], phase: str) -> SmokeTestFailed:
    status = process.wait()
    exit_text = f"ended with exit status {status}"
    next_step = "see its last lines; if they name no cause, run the smoke test again"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
        exit_text = f"was killed by {name}"
        if -status == signal.SIGKILL:
            exit_text += ", as the system does when memory runs out"
            next_step = "free memory, or take quantization='nf4', a smaller base or a larger machine"
    return SmokeTestFailed(
        f"The model level's process {exit_text} while {phase or 'starting'}.{_last_lines(stderr)}",
        next_step=next_step,
        returncode=status,
        phase=phase,
    )


def _last_lines(stderr: IO[bytes]) -> str:
    stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, stderr.tell() - 20_000))
    lines = stderr.read().decode("utf-8", "replace").rstrip().splitlines()[-_LAST_LINES:]
    return "\n  " + "\n  ".join(lines) if lines else " It wrote no error message."
