"""The process that runs a server: it writes the log, and ends the server when nobody needs it any more.

``python -m nbtoolkit.local.launcher ROOT`` with the order on standard input. It lives in a session of its
own, so that neither ■ nor the end of a notebook's kernel reaches it.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Literal

from filelock import FileLock, Timeout

from nbtoolkit.local.processes import ProcessId, kill_group, terminate_group
from nbtoolkit.local.state_files import EndReason, ServerRecord, StateFiles

STOP_GRACE = 35.0
"""Seconds for running answers to finish after SIGTERM; the server takes 30 at most."""
ORPHANED_GRACE = 5.0
"""Seconds for the same where the notebook is gone, and with it whoever waited for the answers."""
WATCH = 0.5
"""Seconds between two looks at the owners."""
ALREADY_RUNNING = 3
"""Exit code where a server of this root runs already."""


@dataclass(frozen=True)
class LaunchSpec:
    """What to run: ``env`` is the whole environment, ``secrets`` are masked in the log."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    kind: Literal["nbtoolkit", "own"]
    port: int
    code: str
    secrets: list[str]
    log_bytes: int
    log_files: int

    def to_json(self) -> str:
        """Return the order as the launcher reads it."""
        return json.dumps(asdict(self))


def main() -> int:
    """Run one server until it ends; return its exit code."""
    files = StateFiles(Path(sys.argv[1]))
    order = LaunchSpec(**json.load(sys.stdin))
    lock = FileLock(files.server_lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return ALREADY_RUNNING
    return _ServerRun(files, order).until_end()  # the lock ends with this process, however it ends


class _ServerRun:
    def __init__(self, files: StateFiles, order: LaunchSpec) -> None:
        self._files = files
        self._order = order
        self._log = _rotating(files.log, order)
        self._events: SimpleQueue[Literal["stop", "ended"]] = SimpleQueue()
        signal.signal(signal.SIGTERM, lambda *_: self._events.put("stop"))

    def until_end(self) -> int:
        order = self._order
        process = subprocess.Popen(
            order.command,
            cwd=order.cwd,
            env=order.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # what the server starts is ended with it
        )
        record = ServerRecord(
            launcher=ProcessId.current(),
            server=ProcessId.of(process.pid),
            kind=order.kind,
            port=order.port,
            code=order.code,
            started=time.time(),
        )
        self._files.write_record(record)
        self._say(f"server started: process {process.pid}, port {order.port}")
        assert process.stdout is not None
        copier = threading.Thread(target=self._copy, args=(process.stdout,), daemon=True)
        copier.start()
        threading.Thread(target=self._tell_end, args=(process,), daemon=True).start()
        reason = self._watch(process, record)
        kill_group(process.pid)  # what the server left behind
        copier.join(2)
        self._say(f"server ended with exit code {process.returncode}: {reason}")
        self._files.write_record(replace(record, exit_code=process.returncode, reason=reason))
        return process.returncode

    def _watch(self, process: subprocess.Popen[bytes], record: ServerRecord) -> EndReason:
        reason: EndReason = "it ended by itself"
        deadline: float | None = None
        while True:
            try:
                event = self._events.get(timeout=WATCH)
            except Empty:
                event = None
            if event == "ended":
                return reason
            if deadline is None:
                if event == "stop":
                    reason, deadline = "it was stopped", time.monotonic() + STOP_GRACE
                elif self._abandoned():
                    reason = "the notebook that started it ended"
                    deadline = time.monotonic() + ORPHANED_GRACE
                if deadline is not None:
                    self._files.write_record(replace(record, reason=reason))
                    self._ask_to_end(process)
            elif time.monotonic() >= deadline:
                kill_group(process.pid)

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        if self._order.kind == "own":
            terminate_group(process.pid)  # a shell would not pass it on
        else:
            process.terminate()  # the front alone, as in a container: its engine must live a little longer

    def _abandoned(self) -> bool:
        owners = self._files.read_owners()
        return bool(owners) and not any(owner.alive() for owner in owners)

    def _tell_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put("ended")

    def _copy(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip("\r\n")
            self._write(text.rpartition("\r")[2])  # of a progress bar only how it ended

    def _say(self, text: str) -> None:
        self._write(f"nbtoolkit: {text}")

    def _write(self, line: str) -> None:
        for secret in self._order.secrets:
            line = line.replace(secret, "**********")
        self._log.emit(logging.makeLogRecord({"msg": line}))


def _rotating(path: Path, order: LaunchSpec) -> logging.Handler:
    return logging.handlers.RotatingFileHandler(
        path, maxBytes=order.log_bytes, backupCount=order.log_files, encoding="utf-8", errors="replace"
    )


if __name__ == "__main__":
    sys.exit(main())
