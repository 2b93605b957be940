"""Run the model level's checks and write the results as JSON lines."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from nbtoolkit.smoke.check import Check, CheckFunction, registered_checks
from nbtoolkit.smoke.model_level.failure_causes import TokenizerFailed, explain
from nbtoolkit.smoke.model_level.messages import (
    CheckMessage,
    DoneMessage,
    FactsMessage,
    FingerprintMessage,
    Message,
    ModelTask,
    PhaseMessage,
    ProblemMessage,
    StartMessage,
)
from nbtoolkit.utils.threads import start_daemon

if TYPE_CHECKING:
    from nbtoolkit.smoke.model_level.context import ModelContext

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
    try:
        _run(task, send)
    except Exception as error:  # noqa: BLE001  one that belongs to no check
        traceback.print_exc()
        found = explain(error, task)
        send(ProblemMessage(text=found.summary, next_step=found.remedy))
        return 1
    send(DoneMessage())
    return 0


def register_checks() -> None:
    """Import the modules that define this level's checks, hence torch."""
    from nbtoolkit.smoke.model_level import budget, degeneration, effect, golden, load, precision, template

    del budget, degeneration, effect, golden, load, precision, template


def _run(task: ModelTask, send: _Send) -> None:
    from nbtoolkit.smoke.model_level.context import ModelContext
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    register_checks()

    def report(text: str, done: float | None = None, total: float | None = None) -> None:
        send(PhaseMessage(text=text, done=done, total=total))

    context = ModelContext(task, report)
    try:
        dtype = context.dtype
    except Exception:  # noqa: BLE001 - check A4 reports what is wrong with the base's configuration
        dtype = None
    send(FactsMessage(device=context.device.name, dtype=dtype))
    failed = ""
    for one in registered_checks("model"):
        if one.id in task.settled:
            continue
        if failed:
            send(CheckMessage(check=one.skipped(f"{failed} failed")))
            continue
        send(StartMessage(id=one.id))
        found = _run_check(one, context)
        if one.id == "G2" and found.verdict in ("pass", "warn"):
            try:
                send(FingerprintMessage(fingerprint=take_fingerprint(context)))
            except Exception as error:  # noqa: BLE001  the report is kept
                found = one.result(explain(error, task), found.seconds)
        if found.verdict == "fail" and one.id in _LOADING:
            failed = one.id
        send(CheckMessage(check=found))


def _run_check(check: CheckFunction[ModelContext], context: ModelContext) -> Check:
    """Run a check; an exception is a finding, and only G3 reports a tokenizer that cannot be loaded."""
    try:
        return check(context)
    except TokenizerFailed as error:
        if check.id != "G3":
            return check.skipped("the tokenizer cannot be loaded, see G3")
        return check.result(explain(error.__cause__ or error, context.task))
    except Exception as error:  # noqa: BLE001  the report is kept
        return check.result(explain(error, context.task))


def _take_stdout() -> TextIO:
    """Reserve standard output for messages; the output of libraries goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _exit_with_parent() -> None:
    """Exit when the kernel that started this process is gone, which closes the pipe."""
    while os.read(0, 1):  # a read of sys.stdin holds a lock, and Python aborts if that is held at its end
        pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
