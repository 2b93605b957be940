"""The bootstrap, run as in the container, with a folder as the share."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbtoolkit.serving import share_layout as share
from nbtoolkit.serving.content_hash import code_files, code_sha256
from nbtoolkit.serving.release import Release, ServedCode
from tests.support.processes import free_port
from tests.support.tiny_wheels import lock_text, make_wheel
from tests.support.wait import wait_until

BOOTSTRAP = Path(__file__).parents[2] / "infra" / "provision" / "bootstrap.py"
SECRET = "canary-key-4711"
SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
try:
    import tinypackage
    found = tinypackage.VERSION
except ImportError:
    found = None

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"phase": "ready", "pid": os.getpid(), "argv": sys.argv[1:], "package": found, "name": NAME}
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_):
        pass

if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


class Mount:
    """A share with the files that a deploy uploads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()

    def code(self, name: str = "first") -> str:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        package = self.root / share.code_path(sha256) / share.CODE_PACKAGE
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(f"NAME = {name!r}\n{SERVER}")
        return sha256

    def wheels(self, *wheels: Path) -> str:
        lock = lock_text(*wheels)
        sha256 = hashlib.sha256(lock.encode()).hexdigest()
        folder = self.root / share.WHEELS / sha256
        folder.mkdir(parents=True)
        (folder / "requirements.txt").write_text(lock)
        for wheel in wheels:
            (folder / wheel.name).write_bytes(wheel.read_bytes())
        return sha256

    def publish(self, n: int, code: ServedCode) -> Release:
        release = Release(base=None, code=code)
        pointer = share.Pointer(n=n, release=release.id, by="test", at=datetime.now(UTC))
        self.write(share.release_path(release.id), release.model_dump_json(indent=2))
        self.write(share.pointer_path(n), pointer.model_dump_json(indent=2))
        return release

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{target.name}")
        scratch.write_text(text)
        scratch.rename(target)

    def heartbeat(self, replica: str = "me") -> share.Heartbeat:
        return share.Heartbeat.model_validate_json((self.root / share.heartbeat_path(replica)).read_bytes())


class Container:
    """The bootstrap as a process, started with the command line of the container app."""

    def __init__(self, mount: Mount, **environment: str) -> None:
        self.port, self.probe_port = free_port(), free_port()
        disk = mount.root.parent / "disk"
        disk.mkdir(exist_ok=True)
        self.log = mount.root.parent / f"container-{self.port}.log"
        env = {**os.environ, "NBTOOLKIT_MOUNT": str(mount.root), "NBTOOLKIT_PORT": str(self.port)}
        env |= {"NBTOOLKIT_BIND": "127.0.0.1", "CONTAINER_APP_REPLICA_NAME": "me", "TMPDIR": str(disk)}
        env |= {"NBTOOLKIT_API_KEY": SECRET, "NBTOOLKIT_PROBE_PORT": str(self.probe_port), **environment}
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", BOOTSTRAP.read_text()], env=env, stdout=log, stderr=log
            )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=5)
        self.probes = httpx.Client(base_url=f"http://127.0.0.1:{self.probe_port}", timeout=5)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.probes.close()
        self.process.terminate()
        self.process.wait(10)
        assert SECRET not in self.log_text()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        return self._wait(self.http, wanted)

    def wait_probe(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        return self._wait(self.probes, wanted)

    def _wait(
        self, http: httpx.Client, wanted: Callable[[dict[str, Any]], Any], seconds: float = 20
    ) -> dict[str, Any]:
        end = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the process ended:\n{self.log_text()}"
            try:
                last = body = http.get("/health").raise_for_status().json()
                if wanted(body):
                    return body
            except httpx.TransportError as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"timed out; last response {last}:\n{self.log_text()}")

    def wait_until_ready(self) -> dict[str, Any]:
        return self.wait(lambda health: health["phase"] == "ready")

    def wait_for_exit(self) -> tuple[int, str]:
        return self.process.wait(20), self.log_text()


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path / "mount")


def test_probes_succeed_without_a_release_and_the_server_replaces_the_process(mount: Mount) -> None:
    with Container(mount) as container:
        health = container.wait(lambda health: health["phase"] == "waiting for a release")
        assert time.monotonic() - container.started < 4
        assert (health["status"], health["release"]) == ("ok", None)
        assert container.http.get("/ready").status_code == 200  # a first start is not hidden
        refused = container.http.post("/v1/chat/completions", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert "waiting for a release" in refused.json()["error"]["message"]
        mount.publish(1, ServedCode(sha256=mount.code()))
        served = container.wait_until_ready()
        assert served["pid"] == container.process.pid
        assert served["argv"] == ["--mount", str(mount.root), "--port", str(container.port)]


def test_readiness_fails_while_another_replica_serves(mount: Mount) -> None:
    def beat(phase: str, at: str) -> None:
        mount.write(share.heartbeat_path("other"), json.dumps({"replica": "other", "at": at, "phase": phase}))

    now = share.Heartbeat(replica="other", at=datetime.now(UTC), phase="ready")
    mount.write(share.heartbeat_path("other"), now.model_dump_json())
    with Container(mount) as container:
        container.wait(bool)
        assert container.http.get("/ready").status_code == 503
        for phase, at in [("loading", now.at.isoformat()), ("ready", "2020-01-01T00:00:00Z"), ("ready", "?")]:
            beat(phase, at)
            assert container.http.get("/ready").status_code == 200


def test_locked_packages_are_installed_once_on_the_local_disk(mount: Mount, tmp_path: Path) -> None:
    wheels = mount.wheels(make_wheel(tmp_path, "tinypackage", "1.5"), make_wheel(tmp_path, "other", "2"))
    mount.publish(1, ServedCode(sha256=mount.code(), wheels_sha256=wheels))
    with Container(mount, PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:1") as container:
        assert container.wait_until_ready()["package"] == "1.5"
    for wheel in (mount.root / share.WHEELS / wheels).glob("*.whl"):
        wheel.unlink()  # a second start on the same disk reads none of them
    with Container(mount) as container:
        assert container.wait_until_ready()["package"] == "1.5"
    assert not list((tmp_path / "mount").rglob("*.pyc"))


def test_a_wheel_with_another_hash_is_not_installed(mount: Mount, tmp_path: Path) -> None:
    wheels = mount.wheels(make_wheel(tmp_path, "tinypackage", "1.5"))
    make_wheel(mount.root / share.WHEELS / wheels, "tinypackage", "1.5", code="VERSION = 'evil'")
    release = mount.publish(3, ServedCode(sha256=mount.code(), wheels_sha256=wheels))
    with Container(mount) as container:
        code, log_text = container.wait_for_exit()
    assert code == 1
    assert "tinypackage" in log_text
    beat = mount.heartbeat()
    assert beat.phase == "failed"
    assert beat.failed
    assert (beat.failed.n, beat.failed.release) == (3, release.id)
    assert "packages cannot be installed" in beat.failed.error
    assert "hash" in beat.failed.error.lower()
    assert [path.name for path in (mount.root / share.REPLICAS).iterdir()] == ["me.json"]
    assert not list((tmp_path / "disk" / "nbtoolkit-site").glob("wheels*"))


def test_a_lock_that_does_not_match_the_hash_in_its_folder_name_is_rejected(
    mount: Mount, tmp_path: Path
) -> None:
    wheels = mount.wheels(make_wheel(tmp_path, "tinypackage", "1.5"))
    evil = make_wheel(mount.root / share.WHEELS / wheels, "tinypackage", "6.6")
    (mount.root / share.WHEELS / wheels / "requirements.txt").write_text(lock_text(evil))
    mount.publish(1, ServedCode(sha256=mount.code(), wheels_sha256=wheels))
    with Container(mount) as container:
        code, log_text = container.wait_for_exit()
    assert code == 1
    assert "is not the lock" in log_text


@pytest.mark.parametrize("missing", ["code", "wheels"])
def test_a_missing_file_on_the_share_is_named(mount: Mount, missing: str) -> None:
    code = "0" * 64 if missing == "code" else mount.code()
    mount.publish(1, ServedCode(sha256=code, wheels_sha256="1" * 64))
    with Container(mount) as container:
        assert container.wait_for_exit()[0] == 1
    error = mount.heartbeat().last_error
    assert error
    assert f"/{missing}/" in error


def test_the_newest_valid_pointer_is_used_and_invalid_ones_are_skipped(mount: Mount) -> None:
    mount.publish(9, ServedCode(sha256=mount.code("ninth")))
    mount.publish(10, ServedCode(sha256=mount.code("tenth")))
    edited = mount.publish(11, ServedCode(sha256=mount.code("eleventh")))
    path = mount.root / share.release_path(edited.id)
    path.write_text(path.read_text().replace("transformers", "vllm"))
    mount.write(share.pointer_path(12), '{"n": 12, "rel')
    mount.write(share.pointer_path(13), '{"n": 13, "release": "../../etc"}')
    mount.write(share.pointer_path(14), '{"n": 14, "release": "r-missing"}')
    mount.write(share.pointer_path(15), '["no pointer"]')
    mount.write(f"{share.ACTIVE}/99.txt", "not a pointer at all")
    with Container(mount) as container:
        assert container.wait_until_ready()["name"] == "tenth"
        assert all(f"pointer {n} is passed over" in container.log_text() for n in (11, 12, 13, 14, 15))


def test_sigterm_ends_the_wait_for_a_release_within_a_second(mount: Mount) -> None:
    with Container(mount) as container:
        container.wait(bool)
        signalled_at = time.monotonic()
        container.process.send_signal(signal.SIGTERM)
        assert container.wait_for_exit()[0] == 0
        assert time.monotonic() - signalled_at < 1


def publish_custom_server(mount: Mount, *commands: str) -> Release:
    return mount.publish(1, ServedCode(kind="own", sha256="a" * 64, commands=commands))


def test_start_commands_share_a_shell_and_stop_at_the_first_failure(mount: Mount) -> None:
    publish_custom_server(
        mount, f"cd {mount.root}", "export WORD=hello", "echo $WORD >one", "false && true", "touch never"
    )
    with Container(mount) as container:
        code, log_text = container.wait_for_exit()
    assert code == 1
    assert (mount.root / "one").read_text() == "hello\n"
    assert not (mount.root / "never").exists()
    assert "start command 4 of 5 failed with exit code 1" in log_text
    failed = mount.heartbeat().failed
    assert failed
    assert "start command 4 of 5" in failed.error


def test_a_custom_server_is_a_child_process_and_receives_sigterm(mount: Mount) -> None:
    (mount.root / "inference").mkdir()
    slow_end = "import pathlib, signal, sys, time\ndef end(*_):\n    time.sleep(0.5)\n"
    slow_end += "    pathlib.Path('finished').touch()\n    sys.exit()\nsignal.signal(signal.SIGTERM, end)\n"
    (mount.root / "inference" / "server.py").write_text(f"NAME = 'own'\n{slow_end}{SERVER}")
    mount.write(share.heartbeat_path("me"), "an earlier start's failure")
    wait = "while [ ! -e go ]; do sleep 0.1; done"
    publish_custom_server(
        mount, f"cd {mount.root}/inference", wait, f"{sys.executable} server.py --port $PORT"
    )
    with Container(mount) as container:
        wait_until(lambda: not (mount.root / share.heartbeat_path("me")).exists())
        container.wait_probe(lambda health: health["phase"] == "running the start commands")
        assert container.probes.get("/ready").status_code == 503  # nothing listens yet
        (mount.root / "inference" / "go").touch()
        served = container.wait_until_ready()
        assert container.probes.get("/health").status_code == 200
        assert container.probes.get("/ready").status_code == 200
        assert served["name"] == "own"
        container.process.send_signal(signal.SIGTERM)
        assert container.wait_for_exit()[0] == 0
        assert (mount.root / "inference" / "finished").exists()  # the bootstrap waited for the signal handler
        with pytest.raises(ProcessLookupError):
            os.kill(served["pid"], 0)


def test_default_commands_run_a_folder_that_was_uploaded_by_hand(mount: Mount) -> None:
    commands = ["cd /mount/inference", "echo $PWD >started", "exit 7"]
    with Container(mount, NBTOOLKIT_DEFAULT_COMMANDS=json.dumps(commands)) as container:
        # The folder does not exist yet.
        container.wait(lambda health: health["phase"] == "waiting for a release")
        (mount.root / "inference").mkdir()
        code, log_text = container.wait_for_exit()
    assert code == 1
    assert "start command 3 of 3 failed with exit code 7" in log_text
    assert (mount.root / "inference" / "started").read_text().strip() == str(mount.root / "inference")


def test_a_release_takes_precedence_over_default_commands(mount: Mount) -> None:
    (mount.root / "inference").mkdir()
    mount.publish(1, ServedCode(sha256=mount.code()))
    with Container(mount, NBTOOLKIT_DEFAULT_COMMANDS='["exit 7"]') as container:
        assert container.wait_until_ready()["name"] == "first"


def test_default_commands_do_not_run_if_the_share_cannot_be_listed(mount: Mount) -> None:
    (mount.root / "inference").mkdir()
    mount.write(share.ACTIVE, "listing this fails, and not since it is missing")
    with Container(mount, NBTOOLKIT_DEFAULT_COMMANDS='["touch /mount/ran", "exit 7"]') as container:
        container.wait(lambda health: health["phase"] == "waiting for a release")
        assert "the share cannot be listed" in container.log_text()
        (mount.root / share.ACTIVE).unlink()
        (mount.root / share.ACTIVE).mkdir()
        mount.publish(1, ServedCode(sha256=mount.code()))
        assert container.wait_until_ready()["name"] == "first"
    assert not (mount.root / "ran").exists()


def test_a_release_with_a_missing_key_is_reported(mount: Mount) -> None:
    content = {"code": {"kind": "own"}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    release = f"r-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    mount.write(share.release_path(release), text)
    mount.write(share.pointer_path(1), json.dumps({"n": 1, "release": release}))
    with Container(mount) as container:
        assert container.wait_for_exit()[0] == 1
    beat = mount.heartbeat()
    assert beat.phase == "failed"
    assert beat.last_error == "KeyError: 'commands'"


def test_the_server_starts_if_an_old_heartbeat_cannot_be_removed(mount: Mount) -> None:
    (mount.root / share.heartbeat_path("me")).mkdir(parents=True)  # unlink fails
    publish_custom_server(mount, f"touch {mount.root}/ran")
    with Container(mount) as container:
        code, log_text = container.wait_for_exit()
    assert code == 0
    assert (mount.root / "ran").exists()
    assert "could not be removed" in log_text


def test_the_built_in_server_starts_from_the_share(mount: Mount, repo: Path) -> None:
    source = repo / "nbtoolkit" / "serving"
    sha256 = code_sha256(source)
    for name, path in code_files(source).items():
        mount.write(f"{share.code_path(sha256)}/{share.CODE_PACKAGE}/{name}", path.read_text())
    mount.publish(1, ServedCode(sha256=sha256))
    with Container(mount) as container:
        health = container.wait(lambda health: "in_flight" in health)  # only the gateway has this key
        assert health["replica"] == "me"
        assert "in_flight" in container.probes.get("/health").json()
        assert container.probes.get("/ready").json()["ready"] in (True, False)


def test_needs_only_the_standard_library_of_python_310() -> None:
    tree = ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 10))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names


def test_fits_into_one_argument_of_a_command() -> None:
    assert len(BOOTSTRAP.read_bytes()) < 64 << 10  # Linux allows 128 KiB
