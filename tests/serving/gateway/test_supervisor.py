"""Start, engine restart and shutdown of the gateway."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbtoolkit.serving.gateway.config import GatewayConfig, GatewayStartRefused, on_network
from nbtoolkit.serving.gateway.published_releases import NotYetReadable, PublishedReleases
from tests.support.gateway_harness import KEY, GatewayProcess, ShareFolder, streamed_words


def stream_body(text: str = "x", tokens: int = 60) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "tone", "stream": True, "max_tokens": tokens, "messages": messages}


@pytest.fixture
def share(tmp_path: Path) -> ShareFolder:
    """A share with a release of one adapter."""
    share = ShareFolder(tmp_path)
    share.publish(share.release(share.adapter("tone", "joy")))
    return share


def test_health_responds_within_four_seconds_although_the_web_ui_starts_later(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--load-seconds", "30", web_ui=True) as gateway:
        gateway.wait(lambda health: health["phase"] in ("starting", "loading"), seconds=4)
        assert time.monotonic() - gateway.started < 4


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "No API key"),
        ({"NBTOOLKIT_API_KEY": "  "}, "No API key"),
        ({"NBTOOLKIT_API_KEY_FILE": "/nowhere/key"}, "cannot be read"),
        ({"NBTOOLKIT_API_KEY": KEY, "NBTOOLKIT_POLL": "often"}, "NBTOOLKIT_POLL='often'"),
        ({"NBTOOLKIT_API_KEY": KEY, "NBTOOLKIT_PROBE_PORT": "http"}, "NBTOOLKIT_PROBE_PORT='http'"),
    ],
)
def test_an_invalid_start_exits_with_one_sentence(
    tmp_path: Path, repo: Path, environment: dict[str, str], says: str
) -> None:
    command = [sys.executable, "-m", "nbtoolkit.serving", "--mount", str(tmp_path), "--port", "0"]
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(repo)}
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr


def test_a_port_in_use_is_named_in_the_error(tmp_path: Path, repo: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        command = [sys.executable, "-m", "nbtoolkit.serving", "--mount", str(tmp_path), "--port", port]
        environment = {
            **os.environ,
            "PYTHONPATH": str(repo),
            "NBTOOLKIT_API_KEY": KEY,
            "NBTOOLKIT_BIND": "127.0.0.1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr


def test_the_key_is_read_from_a_file_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    settings = GatewayConfig.read(tmp_path, 1, environ={"NBTOOLKIT_API_KEY_FILE": str(tmp_path / "key")})
    assert settings.key == KEY
    assert KEY not in repr(settings)
    with pytest.raises(GatewayStartRefused, match="is not a folder"):
        GatewayConfig.read(tmp_path / "none", 1, environ={"NBTOOLKIT_API_KEY": KEY})


@pytest.mark.parametrize(("kind", "network"), [("cifs", True), ("nfs4", True), ("ext4", False)])
def test_the_mount_type_sets_the_poll_interval_of_the_share(tmp_path: Path, kind: str, network: bool) -> None:
    mount = tmp_path / "with space"
    mount.mkdir()
    point = str(mount).replace(" ", "\\040")
    (tmp_path / "mounts").write_text(f"/dev/sda / ext4 rw 0 0\n//host/share {point} {kind} rw 0 0\n")
    assert on_network(mount, tmp_path / "mounts") is network
    assert on_network(tmp_path, tmp_path / "mounts") is False


@pytest.mark.parametrize("how", ["module", "path"])
def test_the_serving_folder_starts_without_the_rest_of_nbtoolkit(
    tmp_path: Path, repo: Path, how: str
) -> None:
    code = tmp_path / "code"
    shutil.copytree(
        repo / "nbtoolkit/serving", code / "serving", ignore=shutil.ignore_patterns("__pycache__")
    )
    share = ShareFolder(tmp_path / "share")
    arguments = ["--mount", str(share.root), "--port", "{port}"]
    if how == "module":  # without the rest of nbtoolkit on the path
        program = (
            "import runpy, sys; sys.modules['nbtoolkit'] = None; "
            "runpy.run_module('serving', run_name='__main__', alter_sys=True)"
        )
        command, path = [sys.executable, "-P", "-c", program, *arguments], code
    else:
        command, path = [sys.executable, str(code / "serving"), *arguments], tmp_path
    with GatewayProcess(share.root, command=command, path=path) as gateway:
        assert gateway.wait(lambda health: health["phase"] == "starting")["detail"].startswith(
            "no valid release"
        )


def test_a_killed_engine_is_restarted_and_its_requests_fail_with_an_error(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--delay", "0.02") as gateway:
        gateway.ready()
        (engine,) = psutil.Process(gateway.process.pid).children()
        whole: list[Any] = []
        thread = threading.Thread(target=lambda: whole.append(gateway.chat("tone", max_tokens=300)))
        thread.start()
        with gateway.http.stream("POST", "/v1/chat/completions", json=stream_body(tokens=300)) as stream:
            lines = stream.iter_lines()
            next(lines)
            gateway.wait(lambda health: health["in_flight"] == 2)
            engine.kill()
            events = [line[6:] for line in lines if line.startswith("data: ")]
        thread.join()
        assert json.loads(events[-1])["error"]["code"] == "engine_restarting"
        assert (whole[0].status_code, whole[0].headers["retry-after"]) == (503, "5")
        assert whole[0].json()["error"]["code"] == "engine_restarting"
        health = gateway.wait(lambda health: health["phase"] == "ready" and health["engine"]["starts"] == 2)
        assert "signal 9" in health["last_error"]
        assert health["proofs"]["tone"].startswith("proven")
        assert gateway.chat("tone").json()["choices"][0]["message"]["content"].split() == ["joy"] * 4
        gateway.wait(lambda _: share.heartbeat().engine_starts == 2)


def test_an_engine_that_fails_to_start_twice_is_reported_with_its_last_output(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--refuse-start") as gateway:
        health = gateway.wait(lambda health: health["phase"] == "failed")
        assert "CUDA out of memory" in health["failed"]["error"]
        assert health["engine"]["starts"] == 2
        gateway.wait(lambda _: share.heartbeat().phase == "failed")


def test_an_engine_that_reports_a_failed_start_is_not_restarted(
    share: ShareFolder,
) -> None:
    with GatewayProcess(share.root, "--fail-start", "nf4 quantization needs a CUDA GPU") as gateway:
        health = gateway.wait(lambda health: health["phase"] == "failed")
        assert "nf4 quantization needs a CUDA GPU" in health["failed"]["error"]
        assert health["engine"]["starts"] == 1
        gateway.wait(lambda _: share.heartbeat().phase == "failed")
        assert "nf4" in str(share.heartbeat().failed)
        gateway.wait(lambda _: not psutil.Process(gateway.process.pid).children())


def test_the_active_release_is_kept_while_the_share_is_unavailable(share: ShareFolder) -> None:
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        time.sleep(1.2)  # longer than the wait for late files
        (share.root / "base").rename(share.root / "away")
        psutil.Process(gateway.process.pid).children()[0].kill()
        gateway.wait(lambda health: "base model 'tiny' is missing" in (health["last_error"] or ""))
        time.sleep(0.5)
        health = gateway.health()
        assert (health["phase"], health["failed"]) == ("restarting", None)
        (share.root / "away").rename(share.root / "base")
        assert gateway.ready(1)["failed"] is None
        assert gateway.chat("tone").status_code == 200


def test_a_mount_error_raises_not_yet_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host_is_down(_: Path) -> bool:
        raise OSError(112, "Host is down")

    monkeypatch.setattr(Path, "is_dir", host_is_down)
    with pytest.raises(NotYetReadable, match=r"base model cannot be read.*Host is down"):
        PublishedReleases(tmp_path).folder("base", "base model")


def test_a_crash_after_a_swap_rejects_no_release(share: ShareFolder) -> None:
    with GatewayProcess(share.root) as gateway:
        gateway.ready(1)
        gateway.ready(share.publish(share.release(share.adapter("tone", "red"))))
        psutil.Process(gateway.process.pid).children()[0].kill()
        health = gateway.wait(lambda health: health["phase"] == "ready" and health["engine"]["starts"] == 2)
        assert (health["n"], health["failed"]) == (2, None)
        assert "is not served" not in gateway.log.read_text()
        assert "signal 9" in health["last_error"]


def test_the_engine_ends_with_a_killed_gateway(share: ShareFolder) -> None:
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        (engine,) = psutil.Process(gateway.process.pid).children()
        gateway.process.kill()
        gateway.process.wait()
        psutil.wait_procs([engine], timeout=5)
        assert not engine.is_running()


def test_sigterm_finishes_running_requests_and_rejects_new_ones(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--delay", "0.02") as gateway:
        gateway.ready()
        with gateway.http.stream("POST", "/v1/chat/completions", json=stream_body()) as stream:
            gateway.process.send_signal(signal.SIGTERM)
            health = gateway.wait(lambda health: health["phase"] == "draining")
            assert health["in_flight"] == 1
            refused = gateway.chat("tone")
            assert refused.status_code == 503
            assert "draining" in refused.json()["error"]["message"]
            assert gateway.http.get("/ready").status_code == 503
            assert streamed_words(stream) == ["joy"] * 60
        assert gateway.process.wait(5) == 0
        assert share.heartbeat().phase == "stopped"


def test_behind_an_ingress_requests_are_accepted_during_the_linger_time(share: ShareFolder) -> None:
    with GatewayProcess(share.root, linger=1.0) as gateway:
        gateway.ready()
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait(lambda health: health["phase"] == "draining")
        assert gateway.http.get("/ready").status_code == 503
        assert gateway.chat("tone").status_code == 200
        assert gateway.process.wait(5) == 0


def test_sigterm_waits_for_running_requests_until_the_drain_timeout(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--delay", "0.02", drain_timeout=0.5) as gateway:
        gateway.ready()
        with gateway.http.stream("POST", "/v1/chat/completions", json=stream_body(tokens=3000)) as stream:
            next(stream.iter_lines())
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.process.wait(8) == 0


def test_sigterm_while_loading_ends_within_five_seconds(share: ShareFolder) -> None:
    with GatewayProcess(share.root, "--load-seconds", "60", web_ui=True) as gateway:
        gateway.wait(lambda health: health["detail"] == "loading weights")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(10) == 0
        assert time.monotonic() - began < 5
        assert share.heartbeat().phase == "stopped"
