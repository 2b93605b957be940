"""A container as a process: its own command line and environment; its child processes end with it."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from .log_buffers import Buffer, Line

MARK = "AZURE_DOUBLE_CONTAINER"
"""Every process of a container has this variable, so that also those outside its process group are ended."""

FROM_HOST = ("LANG", "LC_ALL", "TZ", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "LD_LIBRARY_PATH")
"""The variables that a container inherits from the test; no AZURE_*, no proxy."""

PRODUCT_PREFIX = "NBTOOLKIT_"
"""Variables of our own program, which translates `/mount` itself."""
PROGRAM_TEXT = 400
"""An argument longer than this, or of several lines, is a program's text and is passed unchanged."""

HELLO = """
import http.server, os
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "5"); self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *args): pass
print("Listening on", os.environ["PORT"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Hello).serve_forever()
"""


@dataclass
class LaunchPlan:
    """How to start one container of a template as a process on this machine."""

    argv: list[str]
    environ: dict[str, str] = field(repr=False)
    folder: Path
    ports: dict[int, int]
    """The template's ports and the real ports on this machine."""


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def plan_launch(
    container: Mapping[str, Any],
    *,
    secrets: Mapping[str, str],
    mounts: Mapping[str, Path],
    target_port: int | None,
    platform: Mapping[str, str],
    folder: Path,
    images: Mapping[str, Sequence[str]],
) -> LaunchPlan:
    """Return how to start a container; `mounts` by mount path, `platform` has Azure's variables."""
    wanted = {target_port or 80, *(_port_of(probe) for probe in container.get("probes") or [])}
    ports = dict(zip(sorted(wanted), free_ports(len(wanted)), strict=True))
    port = ports[target_port or 80]
    rewrite = _rewriter(mounts, ports)
    named: dict[str, str] = {}
    for variable in container.get("env") or []:
        reference = variable.get("secretRef")
        if reference:
            named[variable["name"]] = secrets[reference]
        else:
            value = variable.get("value") or ""
            is_product_variable = variable["name"].startswith(PRODUCT_PREFIX) and not (
                value.isdigit() and int(value) in ports
            )
            named[variable["name"]] = value if is_product_variable else rewrite(value)
    command = [*(container.get("command") or images.get(container.get("image", "")) or [])]
    command = [*(command or ["python3", "-u", "-c", HELLO]), *(container.get("args") or [])]
    if Path(command[0]).name in ("python", "python3"):
        command[0] = sys.executable
    argv = [word if len(word) > PROGRAM_TEXT or "\n" in word else rewrite(word) for word in command]
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    environ = {name: os.environ[name] for name in FROM_HOST if name in os.environ}
    environ |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "PORT": str(port),
        **platform,
        **named,
        "CONTAINER_APP_PORT": str(port),
        "NBTOOLKIT_PORT": str(port),
        "NBTOOLKIT_BIND": "127.0.0.1",
    }
    if mounts:
        environ["NBTOOLKIT_MOUNT"] = str(next(iter(mounts.values())))
    if shutil.which(argv[0], path=environ["PATH"]) is None:
        message = f'exec: "{argv[0]}": executable file not found in $PATH'
        argv = [sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(127)", message]
    return LaunchPlan(argv, environ, folder, ports)


class Container:
    """One started process with its child processes; its output goes to `log` line by line."""

    def __init__(self, plan: LaunchPlan, log: Buffer[Line]) -> None:
        self.ports = plan.ports
        self.log = log
        self.started = time.monotonic()
        self._mark = plan.environ[MARK]
        self._process = subprocess.Popen(
            plan.argv,
            env=plan.environ,
            cwd=plan.folder,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {self.pid}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._process.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within real seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, grace: float) -> None:
        """SIGTERM to the first process, as in a container; after `grace` real seconds SIGKILL to all."""
        if self.exit_code is None:
            self._process.terminate()
            self.wait(grace)
        self.kill_all()

    def kill_all(self) -> None:
        """Kill all processes of the container, as at the end of its first process."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + 5
        while (left := processes_with_mark(self._mark)) and time.monotonic() < end:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.005)
        self._reader.join(5)

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream:
            for line in stream:
                self.log.add(Line(stamp(), line.decode("utf-8", "replace").rstrip("\r\n")))


def processes_with_mark(start: str) -> list[psutil.Process]:
    """Return all running processes whose mark has this prefix."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK)
            if mark and mark.startswith(start) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stamp() -> str:
    """Now, as container logs write it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "1+00:00"


def _port_of(probe: Mapping[str, Any]) -> int:
    return int((probe.get("httpGet") or probe["tcpSocket"])["port"])


def _rewriter(mounts: Mapping[str, Path], ports: Mapping[int, int]) -> Any:
    """Return a function that replaces the container's folders and ports by those of this machine."""
    rules: list[tuple[re.Pattern[str], str]] = [
        (re.compile(rf"(?<![\w./-]){re.escape(path.rstrip('/'))}(?![\w.-])"), str(folder))
        for path, folder in sorted(mounts.items(), key=lambda item: -len(item[0]))
    ]
    numbers = re.compile(rf"(?<![\w.-])({'|'.join(map(str, ports))})(?![\w.-])")

    def rewrite(text: str) -> str:
        for pattern, replacement in rules:
            text = pattern.sub(replacement.replace("\\", r"\\"), text)
        return numbers.sub(lambda found: str(ports[int(found[1])]), text)

    return rewrite
