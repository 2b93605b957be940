"""Run a server process: write its log, and stop it when its owners have ended.

``python -m nbtoolkit.local.launcher ROOT`` reads a :class:`LaunchSpec` as JSON from standard input. It runs
in its own session, so that neither an interrupt nor the end of a notebook's kernel reaches it.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import signal
import subprocess
import sys
import time
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Literal

from filelock import FileLock, Timeout

from nbtoolkit.local.log import OLD_FILES
from nbtoolkit.local.server_state import (
    EndReason,
    ProcessId,
    ServerRecord,
    StateFiles,
    port_lock,
    terminate_group,
)
from nbtoolkit.utils.threads import start_daemon

STOP_GRACE = 35.0
"""Seconds for running requests to finish after SIGTERM; the server takes at most 30."""
ORPHANED_GRACE = 5.0
"""The same if all owners have ended, and the clients in their notebooks with them."""
OWNER_POLL = 0.5
"""Seconds between two checks whether an owner is alive."""
ALREADY_RUNNING = 3
"""Exit code if a server of this root is already running."""
PORT_TAKEN = 4
"""Exit code if another launcher's server uses the port."""
LOCK_TIMEOUT = 1.0
"""Seconds to wait for a lock: another process may be testing whether the port is free."""


@dataclass(frozen=True)
class LaunchSpec:
    """The server to run: ``env`` is the whole environment, ``secrets`` are masked in the log."""

    command: list[str]
    cwd: str
    env: dict[str, str]
    kind: Literal["nbtoolkit", "own"]
    port: int
    code: str
    secrets: list[str]
    log_bytes: int


def main() -> int:
    """Run one server until it ends; return its exit code."""
    files = StateFiles(Path(sys.argv[1]))
    spec = LaunchSpec(**json.load(sys.stdin))
    locks = (FileLock(files.server_lock), ALREADY_RUNNING), (port_lock(spec.port), PORT_TAKEN)
    for lock, code in locks:
        try:
            lock.acquire(timeout=LOCK_TIMEOUT)
        except Timeout:
            return code
    return _ServerRun(files, spec).until_end()  # the system releases the locks when this process ends


class _ServerRun:
    def __init__(self, files: StateFiles, spec: LaunchSpec) -> None:
        self._files = files
        self._spec = spec
        self._log = logging.handlers.RotatingFileHandler(
            files.log, maxBytes=spec.log_bytes, backupCount=OLD_FILES, encoding="utf-8", errors="replace"
        )
        self._events: SimpleQueue[Literal["stop", "ended"]] = SimpleQueue()
        signal.signal(signal.SIGTERM, lambda *_: self._events.put("stop"))

    def until_end(self) -> int:
        spec = self._spec
        process = subprocess.Popen(
            spec.command,
            cwd=spec.cwd,
            env=spec.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # child processes of the server are stopped with it
        )
        record = ServerRecord(
            launcher=ProcessId.current(),
            server=ProcessId.of(process.pid),
            kind=spec.kind,
            port=spec.port,
            code=spec.code,
            started=time.time(),
        )
        self._files.write_record(record)
        self._write(f"nbtoolkit: server started: process {process.pid}, port {spec.port}")
        assert process.stdout is not None
        copied = start_daemon(partial(self._copy, process.stdout), name="log")
        start_daemon(process.wait, name="exit").add_done_callback(lambda _: self._events.put("ended"))
        reason = self._watch(process, record)
        terminate_group(process.pid, kill=True)  # child processes that outlived the server
        wait([copied], timeout=2)
        self._write(f"nbtoolkit: server ended with exit code {process.returncode}: {reason}")
        self._files.write_record(replace(record, exit_code=process.returncode, reason=reason))
        return process.returncode

    def _watch(self, process: subprocess.Popen[bytes], record: ServerRecord) -> EndReason:
        """Wait for the server's end; terminate it on a stop or without owners, kill it after the grace."""
        reason: EndReason = "it ended by itself"
        deadline: float | None = None
        while True:
            try:
                event = self._events.get(timeout=OWNER_POLL)
            except Empty:
                event = None
            if event == "ended":
                return reason
            if deadline is None:
                if event == "stop":
                    reason, deadline = "it was stopped", time.monotonic() + STOP_GRACE
                elif self._is_orphaned():
                    reason = "the notebook that started it ended"
                    deadline = time.monotonic() + ORPHANED_GRACE
                if deadline is not None:
                    self._files.write_record(replace(record, reason=reason))
                    if self._spec.kind == "own":
                        terminate_group(process.pid)  # a shell does not forward the signal
                    else:  # the gateway alone, as in a container: its engine must live a little longer
                        process.terminate()
            elif time.monotonic() >= deadline:
                terminate_group(process.pid, kill=True)

    def _is_orphaned(self) -> bool:
        owners = self._files.read_owners()
        return bool(owners) and not any(owner.alive() for owner in owners)

    def _copy(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode(errors="replace").rstrip("\r\n")
            self._write(text.rpartition("\r")[2])  # only the last state of a progress bar

    def _write(self, line: str) -> None:
        for secret in self._spec.secrets:
            line = line.replace(secret, "**********")
        self._log.emit(logging.makeLogRecord({"msg": line}))


if __name__ == "__main__":
    sys.exit(main())
