"""Run the model level's checks and write the results as JSON lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO

from nbtoolkit.smoke.check import Check, registered_checks
from nbtoolkit.smoke.model_level.messages import (
    CheckMessage,
    DoneMessage,
    FactsMessage,
    FingerprintMessage,
    Message,
    ModelTask,
    PhaseMessage,
    ProblemMessage,
)
from nbtoolkit.utils.threads import start_daemon

_LOADING = ("A3", "A4", "G1")
"""If one of these fails, the other checks are skipped."""

_Send = Callable[[Message], None]


def main() -> int:
    """Read the task and run the checks; returns the exit status."""
    out = _take_stdout()
    task = ModelTask.model_validate_json(sys.stdin.buffer.readline())
    start_daemon(_exit_with_parent, name="exit-with-parent")

    def send(message: Message) -> None:
        out.write(message.model_dump_json() + "\n")
        out.flush()

    send(PhaseMessage(text="starting torch, transformers and peft"))
    import torch

    try:
        _run(task, send)
    except (MemoryError, torch.OutOfMemoryError) as error:
        cause = str(error).splitlines()[0] if str(error) else "no more memory is available"
        send(
            ProblemMessage(
                text=f"Out of memory: {cause}",
                next_step="end other programs that use the memory, or take quantization='nf4', a GPU with "
                "more memory, or a smaller base",
            )
        )
        return 1
    send(DoneMessage())
    return 0


def _run(task: ModelTask, send: _Send) -> None:
    from nbtoolkit.smoke.model_level import budget, degeneration, effect, golden, load, precision
    from nbtoolkit.smoke.model_level.context import ModelContext
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    del budget, degeneration, effect, golden, load, precision  # the import registers their checks

    def report(text: str, done: float | None = None, total: float | None = None) -> None:
        send(PhaseMessage(text=text, done=done, total=total))

    context = ModelContext(task, report)
    send(FactsMessage(device=context.device.name, dtype=context.dtype))
    results: dict[str, Check] = {}
    for one in registered_checks("model"):
        if one.id in task.settled:
            continue
        failed = next((id for id in _LOADING if id in results and results[id].verdict == "fail"), None)
        results[one.id] = one.skipped(f"{failed} failed") if failed else one(context)
        send(CheckMessage(check=results[one.id]))
        if one.id == "G2" and results["G2"].verdict in ("pass", "warn"):
            send(FingerprintMessage(fingerprint=take_fingerprint(context)))


def _take_stdout() -> TextIO:
    """Reserve standard output for messages; the output of libraries goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _exit_with_parent() -> None:
    """Exit when the kernel that started this process is gone, which closes the pipe."""
    while sys.stdin.buffer.read(1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
