"""The local server: start, reuse, stop, failure and status."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from nbtoolkit import LocalTarget, Release, Workspace
from nbtoolkit.errors import Cancelled, NotReady, ServerFailed
from nbtoolkit.local import server
from nbtoolkit.local.server_state import ProcessId, port_lock
from nbtoolkit.progress import Progress
from nbtoolkit.serving.share_layout import Heartbeat
from tests.support import local_stub as double
from tests.support.processes import gone, processes_of
from tests.support.wait import wait_until

Make = Callable[..., LocalTarget]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make targets that are destroyed at the end."""
    made: list[LocalTarget] = []

    def target(folder: str = "workspace", **options: Any) -> LocalTarget:
        workspace = Workspace(double.workspace_of(tmp_path / folder))
        options.setdefault("keep", False)
        made.append(LocalTarget(workspace, **options))
        return made[-1]

    yield target
    for one in made:
        one.destroy()


def ask(target: LocalTarget, path: str = "/health") -> dict[str, Any]:
    return httpx.get(target.endpoint().url + path, timeout=10).json()


def port_of(target: LocalTarget) -> int:
    return json.loads((target.root / "server.json").read_text())["port"]


def test_server_runs_the_copy_on_the_share_without_this_checkout(
    make: Make, monkeypatch: pytest.MonkeyPatch, repo: Path
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "hush-hush-hush")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    monkeypatch.setenv("PYTHONPATH", str(repo / "tests"))
    monkeypatch.setenv("NBTOOLKIT_API_KEY", "another-key-of-this-shell")
    target = make(env={"EXTRA": "1"})
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    found = ask(target)
    assert found["path"][0] == str(target.mount / "nbtoolkit/code" / release.code.sha256)
    assert str(repo / "tests") not in found["path"]
    assert found["cwd"] == str(target.root / "work")
    environment = found["env"]
    assert "hush" not in json.dumps(environment)
    assert not {"HF_TOKEN", "NBTOOLKIT_API_KEY"} & environment.keys()
    assert environment["NBTOOLKIT_BIND"] == "127.0.0.1"
    assert environment["NBTOOLKIT_POLL"] == "0.5"
    assert environment["EXTRA"] == "1"
    key = Path(environment["NBTOOLKIT_API_KEY_FILE"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    secret = target.endpoint().key.get_secret_value()
    assert secret == key.read_text().strip()
    for pid in processes_of(target):
        assert secret not in " ".join(psutil.Process(pid).cmdline())


def test_activate_keeps_the_server_and_restart_replaces_it(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    first = ask(target)["pid"]
    url = target.endpoint().url
    make().activate(release, restart=False)  # another notebook of the same workspace
    assert ask(target)["pid"] == first
    target.activate(release, restart=True)
    second = ask(target)["pid"]
    assert second != first
    assert target.endpoint().url == url
    target.activate(double.release(target, "newer code"), restart=False)
    assert ask(target)["pid"] != second
    assert gone(first)
    assert gone(second)


def test_two_notebooks_at_once_start_one_server(make: Make) -> None:
    targets = [make() for _ in range(4)]
    targets[0].provision()
    release = double.release(targets[0])
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(one.activate, release, restart=False) for one in targets]:
            done.result()
    assert len({ask(one)["pid"] for one in targets}) == 1
    assert len(processes_of(targets[0])) == 2  # one launcher, one server


def test_second_server_is_refused_without_a_record(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    record = target.root / "server.json"
    content = record.read_text()
    record.unlink()
    try:
        with pytest.raises(ServerFailed, match="is already running, but its record is missing"):
            target.activate(release, restart=False)
    finally:
        record.write_text(content)


def test_requested_port_precedes_the_last_one_and_the_default(make: Make) -> None:
    first, other = make(port=17_900), make(port=18_000)
    first.provision()
    release = double.release(first)
    first.activate(release, restart=False)
    last = first.endpoint().url
    assert int(last.rpartition(":")[2]) in range(17_900, 17_950)
    first.stop()
    make().activate(release, restart=False)
    assert first.endpoint().url == last
    other.activate(release, restart=False)
    assert first.endpoint().url == last, "a running server is not moved"
    other.activate(release, restart=True)
    assert int(first.endpoint().url.rpartition(":")[2]) in range(18_000, 18_050)


@contextmanager
def port_in_use() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@contextmanager
def port_of_a_starting_server() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    with port_lock(port):
        yield port


@pytest.fixture(params=[port_in_use, port_of_a_starting_server])
def taken(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that another program uses, or another launcher is about to use."""
    with request.param() as port:
        yield port


def test_port_in_use_is_avoided(make: Make, taken: int) -> None:
    target = make(port=taken)
    target.provision()
    target.activate(double.release(target), restart=False)
    assert port_of(target) != taken
    assert ask(target)["phase"] == "ready"


def test_port_in_use_after_the_check_is_avoided(
    make: Make, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []

    def race(port: int) -> int:
        checked.append(port)
        return port if len(checked) == 1 else real(port)

    real = server.free_port
    monkeypatch.setattr(server, "free_port", race)
    target = make(port=taken)
    target.provision()
    target.activate(double.release(target), restart=False)
    assert len(checked) == 2
    assert port_of(target) != taken
    assert ask(target)["phase"] == "ready"


def test_failed_start_shows_the_last_log_lines_without_the_key(make: Make) -> None:
    target = make(env={"DOUBLE_FAILS": "1"})
    target.provision()
    with pytest.raises(ServerFailed, match=r"exit code 7(.|\n)*no such model; key \*\*\*\*") as caught:
        target.activate(double.release(target), restart=False)
    key = (target.root / "api-key").read_text().strip()
    assert key not in str(caught.value)
    assert key not in (target.root / "server.log").read_text()
    assert processes_of(target) == []


def test_crash_is_reported_by_status_and_error(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    with pytest.raises(httpx.HTTPError):
        ask(target, "/die")
    wait_until(lambda: not target.replicas())
    wait_until(lambda: target.status().state == "failed")
    assert "exit code 9" in str(target.status())
    with pytest.raises(ServerFailed, match="about to die"):
        target.check_alive()
    with pytest.raises(NotReady, match="No server runs"):
        target.endpoint()
    target.activate(release, restart=False)
    assert ask(target)["phase"] == "ready"


def test_server_whose_launcher_was_killed_is_replaced(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    record = json.loads((target.root / "server.json").read_text())
    os.kill(record["launcher"]["pid"], signal.SIGKILL)
    wait_until(lambda: not target.replicas())
    assert "killed together with its launcher" in str(target.status())
    target.activate(release, restart=False)
    assert ask(target)["pid"] != record["server"]["pid"]
    assert gone(record["server"]["pid"])


def test_reused_pid_does_not_count_as_the_server(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    path = target.root / "server.json"
    target.stop()
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = json.loads(path.read_text())
        for name in ("launcher", "server"):
            record[name]["pid"] = bystander.pid  # the number was used again, a minute later
            record[name]["created"] -= 60
        path.write_text(json.dumps({**record, "exit_code": None, "reason": None}))
        assert target.replicas() == ()
        target.stop()
        target.activate(release, restart=False)
        assert ask(target)["phase"] == "ready"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_launcher_does_not_stay_a_zombie(make: Make) -> None:
    target = make()
    target.provision()
    release = double.release(target)

    def launcher() -> int:
        target.activate(release, restart=False)
        return json.loads((target.root / "server.json").read_text())["launcher"]["pid"]

    stopped = launcher()
    target.stop()
    assert not psutil.pid_exists(stopped)
    died = launcher()
    with pytest.raises(httpx.HTTPError):
        ask(target, "/die")
    wait_until(lambda: gone(died))
    target.destroy()
    assert not psutil.pid_exists(died)


def test_server_that_ignores_sigterm_is_killed(make: Make) -> None:
    target = make(env={"DOUBLE_STUBBORN": "1"}, stop_timeout=0.5)
    target.provision()
    target.activate(double.release(target), restart=False)
    pid = ask(target)["pid"]
    target.stop()
    assert gone(pid)
    assert processes_of(target) == []


@pytest.fixture
def starting(make: Make) -> tuple[LocalTarget, Release]:
    """A target whose start was cancelled while its server still starts, and the release."""
    target = make(env={"DOUBLE_WAITS": "2"})
    target.provision()
    release = double.release(target)
    progress = Progress()

    def cancel() -> None:
        wait_until((target.root / "server.json").exists)
        progress.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Cancelled):
        target.activate(release, restart=False, progress=progress)
    canceller.join()
    return target, release


def test_target_can_be_used_after_a_cancelled_start(starting: tuple[LocalTarget, Release]) -> None:
    target, release = starting
    target.activate(release, restart=False)
    wait_until(lambda: "double listens" in "\n".join(target.logs()))
    assert len(processes_of(target)) == 2


def test_server_of_a_cancelled_start_that_loses_its_port_is_started_again(
    starting: tuple[LocalTarget, Release],
) -> None:
    target, release = starting
    port = port_of(target)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        target.activate(release, restart=False)
        assert port_of(target) != port
    wait_until(lambda: "double listens" in "\n".join(target.logs()))


def test_status_reads_the_heartbeat_and_escapes_it(make: Make) -> None:
    target = make()
    assert target.status().state == "stopped"
    target.provision()
    target.activate(double.release(target), restart=False)
    assert target.status().state == "starting"
    beat = {"replica": "local", "at": "2026-01-01T00:00:00Z", "phase": "ready", "release": "r-1"}
    path = target.mount / "nbtoolkit/replicas/local.json"
    path.parent.mkdir()

    def write(**more: Any) -> None:
        path.write_text(Heartbeat.model_validate({**beat, **more}).model_dump_json())

    write(adapters={"tone": "a" * 64})
    assert target.status().state == "ready"
    assert "aaaaaaaaaaaaaaaa" in str(target.status())
    write(pending="r-2")
    assert (target.status().state, "r-2" in str(target.status())) == ("degraded", True)
    write(failed={"n": 2, "release": "r-2", "error": "<img src=x onerror=alert(1)>"})
    assert target.status().state == "degraded"
    assert "<img" not in target.status()._repr_html_()
    target.stop()
    assert target.status().state == "stopped"
    assert target.heartbeat() is not None
    assert target.replicas() == ()
    target.activate(double.release(target), restart=False)
    assert target.heartbeat() is None, "the heartbeat of the old server was used for the new one"


def test_destroy_deletes_only_files_of_nbtoolkit(make: Make) -> None:
    target = make()
    target.provision()
    target.activate(double.release(target), restart=False)
    theirs = [target.mount / name / "file" for name in ("models", "model-cache", "inference")]
    for path in theirs:
        path.parent.mkdir()
        path.write_text("mine")
    target.destroy()
    left = {path for path in target.root.rglob("*") if path.is_file()}
    assert left == set(theirs)
    assert processes_of(target) == []
    for path in theirs:
        path.unlink()
        path.parent.rmdir()
    make().destroy()
    assert not target.root.exists() or not list(target.root.rglob("*"))


def test_name_differs_by_root(make: Make, tmp_path: Path) -> None:
    assert make().name == "local"
    assert make(root=tmp_path / "elsewhere").name != make(root=tmp_path / "other").name


def test_process_identity_is_pid_and_start_time() -> None:
    me = ProcessId.current()
    assert me.alive()
    assert not ProcessId(me.pid, me.created - 100).alive()
    child = subprocess.Popen(["true"])
    identity = ProcessId.of(child.pid)
    wait_until(lambda: not identity.alive())  # a zombie until it is waited for
    child.wait()
