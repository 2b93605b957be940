"""Run what the share says, inside the container; needs only the standard library of Python 3.10.

The container's start command holds this whole file, so that the app need not change with a release. It waits
for a release and answers the probes meanwhile, puts what the release needs onto the replica's own disk, and
becomes the release's server. The start commands of a server of the user's own run below it instead.
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
"""Where the platform asks for health: a server of the user's own knows nothing of our probes."""
REPLICA = re.sub(r"[^A-Za-z0-9._-]", "-", os.environ.get("CONTAINER_APP_REPLICA_NAME") or "local").lstrip(".")
SHARE = MOUNT / "nbtoolkit"
DISK = Path(tempfile.gettempdir()) / "nbtoolkit-site"
POLL = 2.0
BEAT_COUNTS = 30.0
"""Seconds for which another replica's heartbeat is believed."""
READY_ANYWAY = 480.0
"""Seconds until readiness is granted in any case: the platform gives a revision up after about 600."""
STARTED = time.monotonic()
WAITING = "waiting for a release"


class Failed(Exception):
    """The release cannot be started; the text says why."""


@dataclass(frozen=True)
class Published:
    """What to run: the number of the pointer that names it, its release's id, and the ``code`` in it."""

    n: int
    release: str
    code: dict[str, Any]


class Now:
    """What is being done, for who asks the probes; the main thread writes it."""

    phase = WAITING
    published: Published | None = None
    own = False
    said: frozenset[str] = frozenset()


def say(text: str) -> None:
    """Write a line to the container's log, each once: who waits looks every two seconds."""
    if text not in Now.said:
        Now.said |= {text}
        print(f"nbtoolkit: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the log is this program's voice


def newest() -> Published | None:
    """Return what the highest valid pointer names; a torn, foreign or edited file is passed over.

    None while the share cannot be listed: that says nothing about what is published.
    """
    try:
        found = [re.fullmatch(r"([1-9]\d*)\.json", entry.name) for entry in (SHARE / "active").iterdir()]
    except FileNotFoundError:
        found = []
    except OSError as error:
        say(f"the share cannot be listed: {error}")
        return None
    numbers = sorted((int(name[1]) for name in found if name), reverse=True)
    for n in numbers:
        try:
            return read(n)
        except (OSError, ValueError, TypeError, KeyError) as error:
            say(f"pointer {n} is passed over: {type(error).__name__}: {error}")
    commands = json.loads(os.environ.get("NBTOOLKIT_DEFAULT_COMMANDS") or "[]")
    if commands and not numbers and (MOUNT / "inference").is_dir():  # put there by hand
        return Published(0, "by hand", {"kind": "own", "commands": commands})
    return None


def read(n: int) -> Published:
    """Return what a pointer names; raises OSError, ValueError, TypeError or KeyError."""
    pointer = json.loads((SHARE / "active" / f"{n}.json").read_bytes())
    if pointer["n"] != n or not re.fullmatch(r"r-\w+", pointer["release"]):
        raise ValueError("it is no pointer")
    release = json.loads((SHARE / "releases" / f"{pointer['release']}.json").read_bytes())
    content = json.dumps(release, sort_keys=True, separators=(",", ":")).encode()
    if pointer["release"] != f"r-{hashlib.sha256(content).hexdigest()[:12]}":
        raise ValueError(f"{pointer['release']} does not match its content")
    if release["code"]["kind"] not in ("nbtoolkit", "own"):
        raise ValueError(f"{release['code']['kind']!r} is a kind of code that this version does not know")
    return Published(n, pointer["release"], release["code"])


def on_disk(name: str, fill: Callable[[Path], object]) -> Path:
    """Return a folder on the replica's own disk; it is filled once and seen by others only when whole."""
    folder = DISK / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
        try:
            fill(scratch)
            scratch.rename(folder)
        except OSError as error:
            if not folder.is_dir():  # else another process on this disk was faster
                raise Failed(f"{name[:20]} cannot be put onto the disk: {error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def install(wheels: Path, target: Path) -> None:
    """Install exactly the packages of a lock from the share, each checked against its hash."""
    lock = wheels / "requirements.txt"
    if hashlib.sha256(lock.read_bytes()).hexdigest() != wheels.name:
        raise Failed(f"{lock} is not the lock that its folder is named after")
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


def prepare(code: dict[str, Any]) -> list[str]:
    """Return the folders for PYTHONPATH: our server and its packages, on the replica's own disk."""
    if sys.version_info < (3, 11):
        raise Failed(f"the image's Python {sys.version.split()[0]} is too old: the server needs 3.11")
    source = SHARE / "code" / code["sha256"]
    folders = [on_disk(f"code-{source.name}", lambda to: shutil.copytree(source, to, dirs_exist_ok=True))]
    if code.get("wheels_sha256"):
        wheels = SHARE / "wheels" / code["wheels_sha256"]
        folders.append(on_disk(f"wheels-{wheels.name}", lambda to: install(wheels, to)))
    return [*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]


def become_server(python_path: list[str]) -> NoReturn:
    """Replace this process, whose number the server keeps: the platform's signals reach it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(python_path)}
    command = [sys.executable, "-u", "-P", "-m", "serving", "--mount", str(MOUNT), "--port", str(PORT)]
    os.execve(sys.executable, command, environment)  # closes the waiting server's socket, too


def run_commands(commands: list[str]) -> None:
    """Run start commands in one shell until its end; raise Failed at the first that fails."""
    here = [re.sub(r"(?<![\w./-])/mount(?![\w.-])", lambda _: str(MOUNT), command) for command in commands]
    descriptor, step = tempfile.mkstemp(prefix="nbtoolkit-step-")
    os.close(descriptor)
    script = ["set -e"]
    for number, command in enumerate(here, start=1):
        # `set -e` lets a failing list such as `a && b` pass where it does not end with the failure
        check = "nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || exit $nbtoolkit_code"
        script += [f"echo {number} >'{step}'", command, check]
    port = {"PORT": str(PORT), "GRADIO_SERVER_PORT": str(PORT), "GRADIO_SERVER_NAME": HOST}
    environment = {"PIP_BREAK_SYSTEM_PACKAGES": "1", **port, **os.environ}
    shell = shutil.which("bash") or "sh"
    Now.phase, Now.own = "running the start commands", True
    shell_process = subprocess.Popen(
        [shell, "-c", "\n".join(script)], env=environment, start_new_session=True
    )
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()
        os.killpg(shell_process.pid, signal.SIGTERM)  # a shell would not pass it on

    signal.signal(signal.SIGTERM, stop)
    exit_code = shell_process.wait()
    while stopped.is_set() and alive(
        shell_process.pid
    ):  # the shell ends at once, the server finishes answers
        time.sleep(0.1)
    number = Path(step).read_text().strip()
    Path(step).unlink()
    if exit_code and not stopped.is_set():
        raise Failed(f"start command {number} of {len(commands)} failed with exit code {exit_code}")


def alive(group: int) -> bool:
    """Tell whether a process of a group still runs; one that ended below us is seen off."""
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


def report_failure(published: Published, error: str) -> None:
    """Tell the share why this replica serves nothing, as the server's heartbeat would."""
    failed = {"n": published.n, "release": published.release, "error": error}
    now = datetime.now(timezone.utc).isoformat()
    beat = {"replica": REPLICA, "at": now, "phase": "failed", "failed": failed, "last_error": error}
    folder = SHARE / "replicas"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f".{REPLICA}.json.new"
        scratch.write_text(json.dumps(beat), encoding="utf-8")
        scratch.replace(folder / f"{REPLICA}.json")
    except OSError as problem:
        say(f"the heartbeat could not be written: {problem}")


def forget_failure() -> None:
    """Remove what an earlier start of this replica said on the share."""
    try:
        (SHARE / "replicas" / f"{REPLICA}.json").unlink(missing_ok=True)
    except OSError as problem:
        say(f"the heartbeat of an earlier start could not be removed: {problem}")


def another_is_ready() -> bool:
    """Tell whether another replica says on the share that it serves."""
    try:
        paths = [path for path in (SHARE / "replicas").glob("[!.]*.json") if path.stem != REPLICA]
    except OSError:
        return False
    for path in paths:
        try:
            beat = json.loads(path.read_bytes())
            at = datetime.fromisoformat(beat["at"].replace("Z", "+00:00"))
            if beat["phase"] == "ready" and (datetime.now(timezone.utc) - at).total_seconds() < BEAT_COUNTS:
                return True
        except (OSError, ValueError, TypeError, KeyError):
            continue  # it went away, or another version wrote it: no word that it is ready
    return False


def is_ready() -> bool:
    """Tell whether requests may come: none while another replica serves, so that this one can get ready."""
    if Now.own:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=2).close()
        except OSError:
            return False
        return True
    return time.monotonic() - STARTED > READY_ANYWAY or not another_is_ready()


class Probes(BaseHTTPRequestHandler):
    """Answer like the server will, with the phase; what only a server can answer is refused with 503."""

    def do_GET(self) -> None:  # noqa: D102 - named by the base class
        published = Now.published
        elapsed = round(time.monotonic() - STARTED, 3)
        body: dict[str, Any] = {"phase": Now.phase, "replica": REPLICA, "elapsed": elapsed}
        body |= {"release": published and published.release, "n": published and published.n}
        status = 503
        if self.path == "/health":
            body["status"], status = "ok", 200
        elif self.path == "/ready":
            body["ready"] = is_ready()
            status = 200 if body["ready"] else 503
        else:
            message = f"The server is not ready: {Now.phase}."
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
        """Say nothing: probes come every few seconds."""


def answer_probes(ports: set[int]) -> dict[int, ThreadingHTTPServer]:
    """Answer the platform on these ports, in threads; return the servers by port."""
    servers = {port: ThreadingHTTPServer((HOST, port), Probes) for port in ports}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return servers


def main() -> int:
    """Wait for a release and run it; return the exit code where that is not the server's own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    published = newest()
    # A server of the user's own is not up before it listens itself: nobody shall answer at its port.
    own = published is not None and published.code["kind"] == "own"
    servers = answer_probes({PROBE_PORT} - {PORT} if own else {PROBE_PORT, PORT})
    while True:
        if published is None:
            say(f"{WAITING} on {SHARE}")
            time.sleep(POLL)
            published = newest()
            continue
        Now.published, Now.phase = published, f"preparing {published.release}"
        say(Now.phase)
        try:
            if published.code["kind"] == "own":
                if PORT in servers:
                    servers[PORT].shutdown()
                    servers[PORT].server_close()
                forget_failure()
                run_commands(published.code["commands"])
                return 0
            python_path = prepare(published.code)
        except (Failed, OSError, LookupError, TypeError, ValueError) as error:
            why = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            say(f"{published.release} cannot be started: {why}")
            report_failure(published, why)
            return 1
        newer = newest()
        if newer is None or newer.code == published.code:
            become_server(python_path)
        published = newer


if __name__ == "__main__":
    sys.exit(main())
