"""Start the published release inside the container; needs only the standard library of Python 3.10.

The container's start command contains this whole file, so that the app need not change with a release. It
waits for a release and responds to probes meanwhile, copies code and packages of the release to the replica's
disk, and replaces itself by the release's server. Start commands of a custom server run as a child instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

MOUNT = Path(os.environ.get("NBTOOLKIT_MOUNT") or "/mount")
HOST = os.environ.get("NBTOOLKIT_BIND") or "0.0.0.0"  # noqa: S104 - the ingress comes from outside
PORT = int(os.environ.get("NBTOOLKIT_PORT") or "7860")
PROBE_PORT = int(os.environ.get("NBTOOLKIT_PROBE_PORT") or PORT)
"""Port of the platform's probes: a custom server does not respond to them."""
REPLICA = re.sub(r"[^A-Za-z0-9._-]", "-", os.environ.get("CONTAINER_APP_REPLICA_NAME") or "local").lstrip(".")
SHARE = MOUNT / "nbtoolkit"
DISK = Path(tempfile.gettempdir()) / "nbtoolkit-site"
POLL_INTERVAL = 2.0
HEARTBEAT_MAX_AGE = 30.0
"""Seconds after which another replica's heartbeat is ignored."""
READY_AFTER = 480.0
"""Seconds after which /ready succeeds in any case: the platform drops a revision after about 600."""
STARTED = time.monotonic()
WAITING = "waiting for a release"


class Failed(Exception):
    """The release cannot be started; the message has the reason."""


@dataclass(frozen=True)
class PublishedRelease:
    """The release to run: number of its pointer, id, and its ``code``."""

    n: int
    release: str
    code: dict[str, Any]


class State:
    """The state for the probes' responses; written by the main thread."""

    phase = WAITING
    published: PublishedRelease | None = None
    custom = False
    logged: frozenset[str] = frozenset()


def log(text: str) -> None:
    """Write a line to the container's log, each line once: the loop repeats every two seconds."""
    if text not in State.logged:
        State.logged |= {text}
        print(f"nbtoolkit: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the container's log


def newest_release() -> PublishedRelease | None:
    """Return the release of the highest valid pointer; skip incomplete, foreign and edited files.

    None while the share cannot be listed: it is then unknown what is published.
    """
    try:
        found = [re.fullmatch(r"([1-9]\d*)\.json", entry.name) for entry in (SHARE / "active").iterdir()]
    except FileNotFoundError:
        found = []
    except OSError as error:
        log(f"the share cannot be listed: {error}")
        return None
    numbers = sorted((int(name[1]) for name in found if name), reverse=True)
    for n in numbers:
        try:
            return read_pointer(n)
        except (OSError, ValueError, TypeError, KeyError) as error:
            log(f"pointer {n} is passed over: {type(error).__name__}: {error}")
    commands = json.loads(os.environ.get("NBTOOLKIT_DEFAULT_COMMANDS") or "[]")
    if commands and not numbers and (MOUNT / "inference").is_dir():  # uploaded by hand
        return PublishedRelease(0, "by hand", {"kind": "own", "commands": commands})
    return None


def read_pointer(n: int) -> PublishedRelease:
    """Return the release of the n-th pointer; raises OSError, ValueError, TypeError or KeyError."""
    pointer = json.loads((SHARE / "active" / f"{n}.json").read_bytes())
    if pointer["n"] != n or not re.fullmatch(r"r-\w+", pointer["release"]):
        raise ValueError("it is not a pointer")
    release = json.loads((SHARE / "releases" / f"{pointer['release']}.json").read_bytes())
    content = json.dumps(release, sort_keys=True, separators=(",", ":")).encode()
    if pointer["release"] != f"r-{hashlib.sha256(content).hexdigest()[:12]}":
        raise ValueError(f"{pointer['release']} does not match its content")
    if release["code"]["kind"] not in ("nbtoolkit", "own"):
        raise ValueError(f"{release['code']['kind']!r} is a kind of code that this version does not support")
    return PublishedRelease(n, pointer["release"], release["code"])


def local_folder(name: str, fill: Callable[[Path], object]) -> Path:
    """Return a folder on the replica's disk; it is filled once and gets its name when it is complete."""
    folder = DISK / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            fill(scratch)
            scratch.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process on this disk created it first
                raise Failed(f"{name[:20]} cannot be copied to the disk: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def install(wheels: Path, target: Path) -> None:
    """Install the packages of a lock from the share, each checked against its hash."""
    lock = wheels / "requirements.txt"
    if hashlib.sha256(lock.read_bytes()).hexdigest() != wheels.name:
        raise Failed(f"{lock} is not the lock in its folder's name")
    pip = [
        sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(wheels), "--require-hashes",
        "--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-compile", "--no-input", "--quiet",
        "--disable-pip-version-check", "--progress-bar", "off", "--root-user-action", "ignore",
        "--target", str(target), "--requirement", str(lock),
    ]  # fmt: skip
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment = {**plain, "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(pip, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the packages cannot be installed: {(done.stderr or done.stdout).strip()[-1500:]}")


def prepare_server(code: dict[str, Any]) -> list[str]:
    """Return the folders for PYTHONPATH: the server's code and its packages, on the replica's disk."""
    if sys.version_info < (3, 11):
        raise Failed(f"the image's Python {sys.version.split()[0]} is too old: the server needs 3.11")
    source = SHARE / "code" / code["sha256"]
    folders = [
        local_folder(f"code-{source.name}", lambda to: shutil.copytree(source, to, dirs_exist_ok=True))
    ]
    if code.get("wheels_sha256"):
        wheels = SHARE / "wheels" / code["wheels_sha256"]
        folders.append(local_folder(f"wheels-{wheels.name}", lambda to: install(wheels, to)))
    return [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]


def exec_server(python_path: list[str]) -> NoReturn:
    """Replace this process by the server, which keeps the process id and so gets the platform's signals."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path)}
    command = [sys.executable, "-u", "-P", "-m", "serving", "--mount", str(MOUNT), "--port", str(PORT)]
    os.execve(sys.executable, command, environment)  # closes the sockets of the probes, too


def run_commands(commands: list[str]) -> None:
    """Run the start commands in one shell until it ends; raise Failed if one fails."""
    here = [re.sub(r"(?<![\w./-])/mount(?![\w.-])", lambda _: str(MOUNT), command) for command in commands]
    descriptor, step = tempfile.mkstemp(prefix="nbtoolkit-step-")
    os.close(descriptor)
    script = ["set -e"]
    for number, command in enumerate(here, start=1):
        # `set -e` ignores a failure in a list such as `a && b` unless it is the last command
        check = "nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || exit $nbtoolkit_code"
        script += [f"echo {number} >'{step}'", command, check]
    port = {"PORT": str(PORT), "GRADIO_SERVER_PORT": str(PORT), "GRADIO_SERVER_NAME": HOST}
    environment = {"PIP_BREAK_SYSTEM_PACKAGES": "1", **port, **os.environ}
    shell = shutil.which("bash") or "sh"
    State.phase, State.custom = "running the start commands", True
    shell_process = subprocess.Popen(
        [shell, "-c", "\n".join(script)], env=environment, start_new_session=True
    )
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        os.killpg(shell_process.pid, signal.SIGTERM)  # a shell would not pass it on

    signal.signal(signal.SIGTERM, stop)
    exit_code = shell_process.wait()
    while stopped.is_set() and is_group_alive(
        shell_process.pid
    ):  # the shell ends at once, the server finishes answers
        time.sleep(0.1)
    number = Path(step).read_text().strip()
    Path(step).unlink()
    if exit_code and not stopped.is_set():
        raise Failed(f"start command {number} of {len(commands)} failed with exit code {exit_code}")


def is_group_alive(group: int) -> bool:
    """Return whether a process of a group still runs; reaps ended children."""
    try:
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none of them is our child
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def report_failure(published: PublishedRelease, error: str) -> None:
    """Write a heartbeat with the failure, as the server would."""
    failed = {"n": published.n, "release": published.release, "error": error}
    now = datetime.now(timezone.utc).isoformat()
    heartbeat = {"replica": REPLICA, "at": now, "phase": "failed", "failed": failed, "last_error": error}
    folder = SHARE / "replicas"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{REPLICA}.json.new"
        scratch.write_text(json.dumps(heartbeat), encoding="utf-8")
        scratch.replace(folder / f"{REPLICA}.json")
    except OSError as problem:
        log(f"the heartbeat could not be written: {problem}")


def remove_failure() -> None:
    """Remove the failure that an earlier start of this replica wrote."""
    try:
        (SHARE / "replicas" / f"{REPLICA}.json").unlink(missing_ok=True)
    except OSError as problem:
        log(f"the heartbeat of an earlier start could not be removed: {problem}")


def another_replica_is_ready() -> bool:
    """Return whether another replica's heartbeat on the share is recent and ready."""
    try:
        paths = [path for path in (SHARE / "replicas").glob("[!.]*.json") if path.stem != REPLICA]
    except OSError:
        return False
    for path in paths:
        try:
            heartbeat = json.loads(path.read_bytes())
            at = datetime.fromisoformat(heartbeat["at"].replace("Z", "+00:00"))
            if (
                heartbeat["phase"] == "ready"
                and (datetime.now(timezone.utc) - at).total_seconds() < HEARTBEAT_MAX_AGE
            ):
                return True
        except (OSError, ValueError, TypeError, KeyError):
            continue  # the file was removed, or another version wrote it
    return False


def is_ready() -> bool:
    """Return the readiness: False while another replica serves, so that it gets the requests until then."""
    if State.custom:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=2).close()
        except OSError:
            return False
        return True
    return time.monotonic() - STARTED > READY_AFTER or not another_replica_is_ready()


class Probes(BaseHTTPRequestHandler):
    """Responds to /health and /ready as the server does, and to all other requests with 503."""

    def do_GET(self) -> None:  # noqa: D102 - named by the base class
        published = State.published
        elapsed = round(time.monotonic() - STARTED, 3)
        body: dict[str, Any] = {"phase": State.phase, "replica": REPLICA, "elapsed": elapsed}
        body |= {"release": published and published.release, "n": published and published.n}
        status = 503
        if self.path == "/health":
            body["status"], status = "ok", 200
        elif self.path == "/ready":
            body["ready"] = is_ready()
            status = 200 if body["ready"] else 503
        else:
            message = f"The server is not ready: {State.phase}."
            body = {"error": {"message": message, "type": "server_error", "code": "not_ready"}}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 503:
            self.send_header("Retry-After", "2")
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes are sent every few seconds."""


def serve_probes(ports: set[int]) -> dict[int, ThreadingHTTPServer]:
    """Respond to probes on these ports, in threads; return the servers by port."""
    servers = {port: ThreadingHTTPServer((HOST, port), Probes) for port in ports}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return servers


def main() -> int:
    """Wait for a release and run it; return the exit code unless the server replaces this process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    published = newest_release()
    # A custom server's port must stay closed until the server listens on it.
    custom = published is not None and published.code["kind"] == "own"
    servers = serve_probes({PROBE_PORT} - {PORT} if custom else {PROBE_PORT, PORT})
    while True:
        if published is None:
            log(f"{WAITING} on {SHARE}")
            time.sleep(POLL_INTERVAL)
            published = newest_release()
            continue
        State.published, State.phase = published, f"preparing {published.release}"
        log(State.phase)
        try:
            if published.code["kind"] == "own":
                if PORT in servers:
                    servers[PORT].shutdown()
                    servers[PORT].server_close()
                remove_failure()
                run_commands(published.code["commands"])
                return 0
            python_path = prepare_server(published.code)
        except (Failed, OSError, LookupError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            log(f"{published.release} cannot be started: {reason}")
            report_failure(published, reason)
            return 1
        newer = newest_release()
        if newer is None or newer.code == published.code:
            exec_server(python_path)
        published = newer


if __name__ == "__main__":
    sys.exit(main())
