"""Run the model level's checks and write what they find as JSON lines."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from nbtoolkit.smoke.check import Check, checks_of
from nbtoolkit.smoke.model_level.messages import (
    Done,
    Facts,
    Found,
    Message,
    Phase,
    ProblemMessage,
    Result,
    Task,
)

_LOADING = ("A3", "A4", "G1")
"""Where one of these fails, there is nothing that the others could look at."""

_Say = Callable[[Message], None]


def main() -> int:
    """Read the task, run the checks; returns the exit status."""
    out = _take_stdout()
    task = Task.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def say(message: Message) -> None:
        out.write(message.model_dump_json() + "\n")
        out.flush()

    say(Phase(text="starting torch, transformers and peft"))
    import torch

    try:
        _run(task, say)
    except (MemoryError, torch.OutOfMemoryError) as error:
        say(
            ProblemMessage(
                text=f"Out of memory: {str(error).splitlines()[0] if str(error) else 'no more to be had'}",
                next_step="end what else uses the memory, or take quantization='nf4', a GPU with more "
                "memory, or a smaller base",
            )
        )
        return 1
    say(Done())
    return 0


def _run(task: Task, say: _Say) -> None:
    from nbtoolkit.smoke.model_level import degeneration as sanity
    from nbtoolkit.smoke.model_level import effect  # registers their checks
    from nbtoolkit.smoke.model_level import load as loading
    from nbtoolkit.smoke.model_level.context import ModelSubject
    from nbtoolkit.smoke.model_level.fingerprints import fingerprint

    del effect, loading, sanity

    def tell(text: str, done: float | None = None, total: float | None = None) -> None:
        say(Phase(text=text, done=done, total=total))

    subject = ModelSubject(task, tell)
    say(Facts(device=subject.device.name, dtype=subject.dtype))
    results: dict[str, Check] = {}
    for one in checks_of("model"):
        if one.id in task.settled:
            continue
        failed = next((id for id in _LOADING if id in results and results[id].verdict == "fail"), None)
        results[one.id] = one.skipped(f"{failed} failed") if failed else one(subject)
        say(Result(check=results[one.id]))
        if one.id == "G2" and results["G2"].verdict in ("pass", "warn"):
            say(Found(fingerprint=fingerprint(subject)))


def _take_stdout() -> TextIO:
    """Keep standard output for the messages: whatever a library prints goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _end_with_parent() -> None:
    """End at once when the kernel that started this process is gone: its end of the pipe closes."""
    while sys.stdin.buffer.read(1):
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
