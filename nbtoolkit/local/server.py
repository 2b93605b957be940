"""Start and stop the server process of a local target, and describe its status."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from nbtoolkit.errors import ServerFailed
from nbtoolkit.local import log
from nbtoolkit.local.launcher import ALREADY_RUNNING, PORT_TAKEN, STOP_GRACE, LaunchSpec
from nbtoolkit.local.server_state import (
    ProcessId,
    ServerRecord,
    StateFiles,
    free_port,
    listening_ports,
    port_is_free,
    terminate_group,
)
from nbtoolkit.progress import Progress
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetState

LISTEN_TIMEOUT = 120.0
"""Seconds for a server to open its port; nbtoolkit's needs about 4, on a loaded machine more."""
STOP_TIMEOUT = STOP_GRACE + 5
"""Seconds until a launcher that does not end its server is killed."""
RECORD_TIMEOUT = 3.0
"""Seconds for a launcher to record how its server ended: it first reads the rest of the output."""
LOG_LINES = 25
"""Log lines that an error quotes."""
PORT_RACES = 5
"""Start attempts if another program takes the port between the check and the start."""
_POLL = 0.05

_launchers: list[subprocess.Popen[bytes]] = []
"""Launchers started by this process that have not been reaped."""
_ending: set[Path] = set()
"""Roots whose server is terminated when this process exits."""


class LocalServer:
    """The server process of one root, whichever process started it."""

    def __init__(self, files: StateFiles, *, stop_timeout: float = STOP_TIMEOUT) -> None:
        self.files = files
        self._stop_timeout = stop_timeout

    def record(self) -> ServerRecord | None:
        """Return the last start, running or not.

        The launcher of a server that has just ended gets a moment to record the exit code.
        """
        for one in list(_launchers):  # collect their exit codes, so that none stays a zombie
            if one.poll() is not None:
                with contextlib.suppress(ValueError):  # another thread removed it
                    _launchers.remove(one)
        Progress().wait_until(self._is_recorded, timeout=RECORD_TIMEOUT, interval=_POLL / 2)
        return self.files.read_record()

    def _is_recorded(self) -> bool:
        record = self.files.read_record()
        if record is None or record.exit_code is not None or record.server.alive():
            return True
        return not record.launcher.alive()

    def running(self) -> ServerRecord | None:
        """Return the record of the running server, None if none runs."""
        record = self.record()
        return record if record and record.running else None

    def writes_log(self) -> bool:
        """Return whether more log lines may follow: the launcher writes the exit code after its last line."""
        record = self.record()
        return record is not None and record.exit_code is None and record.launcher.alive()

    def start(self, spec_for: Callable[[int], LaunchSpec], port: int, progress: Progress) -> ServerRecord:
        """Start a server at ``port`` or the next free one, and return once it listens.

        A custom server is not waited for. If another program takes the port first, the next one is tried.
        Raises :class:`ServerFailed` with the last log lines.
        """
        for _ in range(PORT_RACES):
            port = free_port(port)
            spec = spec_for(port)
            record = self._launch(spec, progress)
            if record and self.listens(record, progress):
                return record
            if record and port_is_free(port):
                break
            progress.note(f"port {port} is now in use, trying the next one")
        self.raise_if_dead()
        raise ServerFailed("The server ended at once.", next_step=f"see the log {self.files.log}")

    def listens(self, record: ServerRecord, progress: Progress) -> bool:
        """Wait until the server's port is open; return False if the server ended instead.

        Returns True at once for a custom server: its start commands may take minutes.
        """
        if record.kind == "own":
            return True

        def listens_or_ended() -> bool:
            return not record.running or record.port in listening_ports(record.server)

        if not progress.wait_until(listens_or_ended, timeout=LISTEN_TIMEOUT, interval=_POLL):
            self.stop(progress)
            raise ServerFailed(
                f"The server did not open port {record.port} within {LISTEN_TIMEOUT:g} s. "
                f"Its last log lines:\n{_indented(log.tail(self.files.log, LOG_LINES))}",
                next_step="correct what the log names and deploy again",
            )
        if record.running:
            return True

        progress.wait_until(partial(self._have_ended, record.launcher), interval=_POLL)
        return False

    def stop(self, progress: Progress) -> None:
        """Stop the server, if one runs: running requests may finish, after 35 s it is killed."""
        record = self.record()
        if record is None or not (record.launcher.alive() or record.server.alive()):
            return
        if record.launcher.alive():
            progress.phase("Stopping the server; running requests may finish")
            if record.running:  # at once: a server that is stopping does not count as running
                self.files.write_record(replace(record, reason="it was stopped"))
            record.launcher.terminate()
        else:
            terminate_group(record.server.pid)

        has_ended = partial(self._have_ended, record.launcher, record.server)
        if not progress.wait_until(has_ended, timeout=self._stop_timeout, interval=_POLL):
            record.launcher.terminate(kill=True)
            if record.server.alive():
                terminate_group(record.server.pid, kill=True)
            progress.wait_until(has_ended, interval=_POLL)

    def raise_if_dead(self) -> None:
        """Raise :class:`ServerFailed` with the last log lines if the server has ended."""
        record = self.record()
        if record is None or record.running:
            return
        if record.exit_code is not None:
            ended = f"ended with {_exit(record.exit_code)}; {record.reason}"
        elif record.reason:
            ended = f"is ending; {record.reason}"
        else:
            ended = "was killed together with its launcher"
        lines = log.tail(self.files.log, LOG_LINES)
        raise ServerFailed(
            f"The server {ended}. Its last log lines:\n{_indented(lines)}",
            next_step=f"correct what the log names and deploy again; the whole log is {self.files.log}",
            reason=f"the server {ended}",
            exit_code=record.exit_code,
            log=lines,
        )

    def _launch(self, spec: LaunchSpec, progress: Progress) -> ServerRecord | None:
        """Start a launcher and return its record, or None if another launcher's server uses the port."""
        self.files.record.unlink(missing_ok=True)
        environment = {**spec.env, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.files.launcher_log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nbtoolkit.local.launcher", str(self.files.root)],
                cwd=spec.cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        _launchers.append(process)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps(asdict(spec)).encode())

        def started() -> bool:
            return process.poll() is not None or self.files.read_record() is not None

        progress.wait_until(started, interval=_POLL)
        record = self.files.read_record()
        if record is None and process.poll() != PORT_TAKEN:
            raise self._not_launched(process.returncode)
        return record

    def _not_launched(self, code: int) -> ServerFailed:
        if code == ALREADY_RUNNING:
            return ServerFailed(
                f"A server of {self.files.root} is already running, but its record is missing.",
                next_step=f"end the process that names {self.files.root} and runs nbtoolkit.local.launcher",
            )
        output = self.files.launcher_log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        return ServerFailed(
            f"The server's launcher ended with {_exit(code)}:\n{_indented(output.splitlines())}",
            next_step="repair the Python environment that it names, then deploy again",
        )

    def _have_ended(self, *processes: ProcessId) -> bool:
        """Return whether all processes have ended; an ended launcher is reaped and no zombie."""
        ended = not any(process.alive() for process in processes)
        self.record()  # after the test: a launcher that ends in between is reaped by the next call
        return ended


def terminate_at_exit(files: StateFiles) -> None:
    """Terminate the server when this process exits normally, unless it has another owner.

    This only saves half a second: the launcher polls its owners, since a killed kernel runs no exit handler.
    """
    if files.root not in _ending:
        _ending.add(files.root)
        atexit.register(_terminate_if_last_owner, files, ProcessId.current())


def _terminate_if_last_owner(files: StateFiles, me: ProcessId) -> None:
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


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines) or "  (none)"


def end_of(record: ServerRecord | None) -> tuple[TargetState, str]:
    """Return the state of a server that does not run, and its summary."""
    if record is None:
        return "stopped", "no server was started yet"
    if record.reason is None:
        return "failed", "the server was killed together with its launcher"
    if record.reason == "it ended by itself":
        return "failed", f"the server ended with exit code {record.exit_code}"
    return "stopped", record.reason


def describe_server(
    record: ServerRecord, heartbeat: Heartbeat | None
) -> tuple[TargetState, str, dict[str, str]]:
    """Return the state, the summary and the facts of a running server; a custom one has no heartbeat."""
    facts = {
        "process": f"{record.server.pid}, for {_duration(time.time() - record.started)}",
        "server": "nbtoolkit's" if record.kind == "nbtoolkit" else "your own, from inference/ on the share",
    }
    if record.kind == "own":
        if listening_ports(record.server):  # nothing else is known about it
            return "ready", "it listens; its adapter is not proven", facts
        return "starting", "its start commands are running", facts
    if heartbeat is None:
        return "starting", "no heartbeat yet", facts
    facts |= {f"adapter {name}": f"sha256 {sha256[:16]}…" for name, sha256 in heartbeat.adapters.items()}
    if heartbeat.last_error:
        facts["last error"] = heartbeat.last_error
    ready = heartbeat.phase == "ready"
    if failed := heartbeat.failed:
        summary = f"release {failed.release} is not served: {failed.error}"
        return "degraded" if ready else "failed", summary, facts
    if ready and heartbeat.pending:
        summary = f"release {heartbeat.pending} needs a restart: deploy again, or rollback()"
        return "degraded", summary, facts
    if ready:
        return "ready", "it answers", facts
    if heartbeat.phase == "failed":
        return "failed", heartbeat.last_error or "see the log", facts
    return "starting", heartbeat.phase, facts


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
