"""Start and end the one server of a local target."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nbtoolkit.errors import ServerFailed
from nbtoolkit.local import log
from nbtoolkit.local.environment import free_port, listening_ports, port_is_free
from nbtoolkit.local.launcher import ALREADY_RUNNING, STOP_GRACE, LaunchSpec
from nbtoolkit.local.processes import ProcessId, kill_group, terminate_group
from nbtoolkit.local.state_files import ServerRecord, StateFiles
from nbtoolkit.progress import Progress

LISTENS_WITHIN = 120.0
"""Seconds for a server to open its port; ours needs about 4, on a laden machine more."""
STOPS_WITHIN = STOP_GRACE + 5
ENDED_WITHIN = 3.0
"""Seconds for a launcher to write down how its server ended: it first reads the last of the output."""
LOG_LINES = 25
"""Log lines that an error quotes."""
PORT_RACES = 5
"""How often another program may take the port between the look and the start."""
_POLL = 0.05

_launchers: list[subprocess.Popen[bytes]] = []
"""Launchers started by this process that have not been seen to end."""
_ending: set[Path] = set()
"""Roots whose server is asked to end when this process does."""


class LocalServer:
    """The server process of one root, whichever process started it."""

    def __init__(self, files: StateFiles) -> None:
        self.files = files

    def record(self) -> ServerRecord | None:
        """Return the last start, running or not.

        A launcher whose server has just ended is given a moment to write down how.
        """
        _reap()
        deadline = time.monotonic() + ENDED_WITHIN
        while True:
            record = self.files.read_record()
            if record is None or record.exit_code is not None or record.server.alive():
                return record
            if not record.launcher.alive() or time.monotonic() >= deadline:
                return record
            time.sleep(_POLL / 2)

    def running(self) -> ServerRecord | None:
        """Return the start that runs now, None where nothing does."""
        record = self.record()
        return record if record and record.running else None

    def start(self, order_for: Callable[[int], LaunchSpec], port: int, progress: Progress) -> ServerRecord:
        """Start a server at ``port`` or the next free one, and return once it listens.

        The user's own server is not waited for: its start commands may take their time. Where another
        program takes the port first, the next one is tried. Raises :class:`ServerFailed` with the last log
        lines.
        """
        for _ in range(PORT_RACES):
            port = free_port(port)
            order = order_for(port)
            record = self._launch(order, progress)
            if order.kind == "own" or self._listens(record, progress):
                return record
            if port_is_free(port):
                break
            progress.note(f"port {port} was taken meanwhile, trying the next one")
        self.raise_if_dead()
        raise ServerFailed("The server ended at once.", next_step=f"see the log {self.files.log}")

    def stop(self, progress: Progress) -> None:
        """End the server: running answers may finish, after 35 s it is killed. Nothing runs: no error."""
        record = self.record()
        if record and (record.launcher.alive() or record.server.alive()):
            self._end(record, progress)
        _reap()

    def tail(self, lines: int = LOG_LINES) -> str:
        """Return the last lines of the log."""
        return "\n".join(log.tail(self.files.log, lines))

    def raise_if_dead(self) -> None:
        """Raise :class:`ServerFailed` with the last log lines where the server does not run any more."""
        record = self.record()
        if record is None or record.running:
            return
        if record.exit_code is not None:
            ended = f"ended with {_exit(record.exit_code)}; {record.reason}"
        elif record.reason:
            ended = f"is ending; {record.reason}"
        else:
            ended = "was killed together with its launcher"
        raise ServerFailed(
            f"The server {ended}. Its last log lines:\n{_indented(self.tail())}",
            next_step=f"correct what the log names and deploy again; the whole log is {self.files.log}",
            reason=f"the server {ended}",
            exit_code=record.exit_code,
            log=self.tail(),
        )

    def _end(self, record: ServerRecord, progress: Progress) -> None:
        if record.launcher.alive():
            progress.phase("Stopping the server; running answers may finish")
            if record.running:  # at once: a server that is ending must not be taken for one that serves
                self.files.write_record(replace(record, reason="it was stopped"))
            record.launcher.terminate()
        else:
            terminate_group(record.server.pid)
        deadline = time.monotonic() + STOPS_WITHIN
        while record.launcher.alive() or record.server.alive():
            if time.monotonic() >= deadline:
                record.launcher.kill()
                if record.server.alive():
                    kill_group(record.server.pid)
            self.record()
            progress.sleep(_POLL)

    def _launch(self, order: LaunchSpec, progress: Progress) -> ServerRecord:
        self.files.record.unlink(missing_ok=True)
        environment = {**order.env, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.files.launcher_log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nbtoolkit.local.launcher", str(self.files.root)],
                cwd=order.cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        _launchers.append(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(order.to_json().encode())
        while (record := self.files.read_record()) is None:
            if process.poll() is not None and self.files.read_record() is None:
                raise self._not_launched(process.returncode)
            progress.sleep(_POLL)
        return record

    def _not_launched(self, code: int) -> ServerFailed:
        if code == ALREADY_RUNNING:
            return ServerFailed(
                f"A server of {self.files.root} runs already, though its record is gone.",
                next_step=f"end the process that names {self.files.root} and runs nbtoolkit.local.launcher",
            )
        words = self.files.launcher_log.read_text(encoding="utf-8", errors="replace")
        return ServerFailed(
            f"The server's launcher ended with {_exit(code)}:\n{_indented(words.strip()[-2000:])}",
            next_step="repair the Python environment that it names, then deploy again",
        )

    def _listens(self, record: ServerRecord, progress: Progress) -> bool:
        """Wait until the server's port is open; return False where the server ended instead."""
        deadline = time.monotonic() + LISTENS_WITHIN
        while record.running:
            if record.port in listening_ports(record.server):
                return True
            if time.monotonic() >= deadline:
                self.stop(progress)
                raise ServerFailed(
                    f"The server did not open port {record.port} within {LISTENS_WITHIN:g} s. "
                    f"Its last log lines:\n{_indented(self.tail())}",
                    next_step="correct what the log names and deploy again",
                )
            progress.sleep(_POLL)
        while record.launcher.alive():  # it writes down how the server ended
            self.record()
            progress.sleep(_POLL)
        return False


def _reap() -> None:
    """Forget the launchers of this process that have ended."""
    for one in list(_launchers):
        if one.poll() is not None:
            with contextlib.suppress(ValueError):  # another thread saw it too
                _launchers.remove(one)


def terminate_at_exit(files: StateFiles) -> None:
    """Ask the launcher to end the server at this process's normal end, if nobody else owns it.

    Only a courtesy that saves half a second: the launcher watches its owners by itself, since a killed
    kernel runs no exit handler.
    """
    if files.root not in _ending:
        _ending.add(files.root)
        atexit.register(_leave, files, ProcessId.current())


def _leave(files: StateFiles, me: ProcessId) -> None:
    owners = files.read_owners()
    if me.pid == os.getpid() and me in owners and not any(o.alive() for o in owners if o != me):
        record = files.read_record()
        if record and record.running:
            record.launcher.terminate()


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines()) or "  (none)"
