"""Hot swaps of adapters while the gateway serves."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from nbtoolkit.serving import share_layout as layout
from nbtoolkit.serving.release import EngineSettings, ServedBase, ServedCode
from tests.support.gateway_harness import GatewayProcess, ShareFolder, streamed_words


def test_swaps_during_streams_drop_no_text_and_mix_no_adapters(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    releases = [share.release(share.adapter("tone", expected)) for expected in ("joy", "red", "salt")]
    expected = {1: "joy", 2: "red", 0: "salt"}
    share.publish(releases[0])
    stop = threading.Event()
    failures: list[str] = []
    answers: list[tuple[set[int | None], set[str]]] = []

    def stream(gateway: GatewayProcess) -> None:
        while not stop.is_set():
            before = gateway.health()["n"]
            body = {"model": "tone", "stream": True, "max_tokens": 20}
            body["messages"] = [{"role": "user", "content": "x"}]
            with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                began = gateway.health()["n"]
                if answer.status_code != 200:
                    failures.append(answer.read().decode())
                    continue
                answers.append(({before, began}, set(streamed_words(answer))))

    with GatewayProcess(share.root, "--delay", "0.01") as gateway:
        gateway.ready()
        threads = [threading.Thread(target=stream, args=(gateway,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        took: list[float] = []
        for number in range(1, 7):
            time.sleep(0.3)
            began = time.monotonic()
            gateway.ready(share.publish(releases[number % 3]))
            took.append(time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join()
        gateway.wait(lambda _: gateway.metric("stub_adapters") == 1)  # the old adapters are unloaded
        assert gateway.health()["engine"]["starts"] == 1
    assert failures == []
    assert len(answers) > 20
    for public, found in answers:
        assert len(found) == 1, "the adapter changed within a response"
        assert found <= {expected[n % 3] for n in public if n}
    assert max(took) < 2


def test_a_request_keeps_the_adapter_that_was_active_at_its_start(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    share.publish(share.release(share.adapter("tone", "joy")))
    with GatewayProcess(share.root, "--delay", "0.02") as gateway:
        gateway.ready()
        body = {"model": "tone", "stream": True, "max_tokens": 60}
        body["messages"] = [{"role": "user", "content": "x"}]
        with gateway.http.stream("POST", "/v1/chat/completions", json=body) as old:
            gateway.ready(share.publish(share.release(share.adapter("tone", "red"))))
            assert gateway.chat("tone").json()["choices"][0]["message"]["content"].split() == ["red"] * 4
            assert gateway.metric("stub_adapters") == 2
            assert streamed_words(old) == ["joy"] * 60
        gateway.wait(lambda _: gateway.metric("stub_adapters") == 1)


def test_adapters_are_added_and_removed(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    joy, red = share.adapter("tone", "joy"), share.adapter("hue", "red")
    share.publish(share.release(joy))
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        gateway.ready(share.publish(share.release(joy, red)))
        assert gateway.chat("hue").json()["choices"][0]["message"]["content"].split() == ["red"] * 4
        gateway.ready(share.publish(share.release(red)))
        assert gateway.chat("tone").status_code == 404
        gateway.ready(share.publish(share.release()))
        assert gateway.chat("hue").status_code == 404, "the base model is served under the adapter's name"
        assert gateway.chat("tiny").status_code == 200


@pytest.mark.parametrize(
    ("knobs", "cause"),
    [
        ({"on_load": "refuse"}, "missing keys"),
        ({"proven_as": "green"}, "is not what answers under its name"),
    ],
)
def test_a_failed_swap_keeps_the_old_release_and_reports_the_cause(
    tmp_path: Path, knobs: dict[str, str], cause: str
) -> None:
    share = ShareFolder(tmp_path)
    good = share.adapter("tone", "joy")
    share.publish(share.release(good))
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        bad = share.release(share.adapter("tone", "red", **knobs))
        n = share.publish(bad)
        health = gateway.wait(lambda health: health["failed"])
        assert (health["failed"]["n"], health["failed"]["release"]) == (n, bad.id)
        assert cause in health["failed"]["error"]
        assert health["phase"] == "ready"
        assert health["n"] == 1
        assert gateway.chat("tone").json()["choices"][0]["message"]["content"].split() == ["joy"] * 4
        gateway.wait(lambda _: share.heartbeat().failed is not None)
        gateway.wait(lambda _: gateway.metric("stub_adapters") == 1)
        with GatewayProcess(share.root, replica="late") as late:
            assert late.ready(1)["failed"]["n"] == n, "a replica that starts later does not fall back"
        gateway.ready(share.publish(share.release(good, share.adapter("hue", "blue"))))
        assert gateway.health()["failed"] is None


def test_an_adapter_with_another_sha256_is_not_served(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    share.publish(share.release(share.adapter("tone", "joy")))
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        adapter = share.adapter("tone", "red")
        weights = share.root / adapter[0].path / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        share.publish(share.release(adapter))
        health = gateway.wait(lambda health: health["failed"])
        assert "sha256" in health["failed"]["error"]
        assert health["n"] == 1


def test_an_adapter_that_crashes_the_engine_is_rejected(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    share.publish(share.release(share.adapter("tone", "joy")))
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        share.publish(share.release(share.adapter("tone", "red", on_load="die")))
        gateway.wait(lambda health: health["failed"] and health["phase"] == "ready")
        assert gateway.chat("tone").json()["choices"][0]["message"]["content"].split() == ["joy"] * 4


def test_incomplete_and_invalid_pointers_are_reported_and_skipped(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    good = share.release(share.adapter("tone", "joy"))
    share.publish(good)
    incomplete = share.root / layout.pointer_path(2)
    incomplete.write_text('{"n": 2, "rele')
    (share.root / layout.pointer_path(3)).write_text(
        '{"n": 4, "release": "r-000000000000", "by": "x", "at": "2026-01-01T00:00:00Z"}'
    )
    other = share.release(share.adapter("tone", "red"))
    (share.root / layout.release_path(other.id)).write_text(good.model_dump_json())
    share.n = 3
    share.publish(other)
    with GatewayProcess(share.root) as gateway:
        health = gateway.ready(1)
        assert health["last_error"] is not None
        assert health["failed"]["n"] == 4
        assert "does not match its content" in health["failed"]["error"]
        # The incomplete pointer becomes complete, as that of a slow writer.
        third = share.release(share.adapter("tone", "salt"))
        incomplete.write_text(f'{{"n": 2, "release": "{third.id}", "by": "x", "at": "2026-01-01T00:00:00Z"}}')
        gateway.ready(2)
        assert gateway.chat("tone").json()["choices"][0]["message"]["content"].split() == ["salt"] * 4


def test_a_release_that_changes_more_than_adapters_waits_for_a_restart(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    joy = share.adapter("tone", "joy")
    share.publish(share.release(joy))
    changes: list[dict[str, object]] = [
        {"engine": EngineSettings(max_batch=3)},
        {"code": ServedCode(sha256="d" * 64)},
        {"base": ServedBase(name="tiny", path="base", sha256="e" * 64)},
    ]
    n = 1
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        for change in changes:
            other = share.release(joy, **change)
            n = share.publish(other)
            wanted = {"release": other.id, "needs": "restart"}
            health = gateway.wait(lambda health, wanted=wanted: health["pending"] == wanted)
            assert (health["phase"], health["n"]) == ("ready", 1)
            assert gateway.chat("tone").status_code == 200
            gateway.wait(lambda _, other=other: share.heartbeat().pending == other.id)
    with GatewayProcess(share.root) as gateway:
        assert gateway.ready(n)["pending"] is None


def test_an_adapter_equal_to_the_base_is_served_as_not_distinguishable(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    share.publish(share.release(share.adapter("tone", "base")))
    with GatewayProcess(share.root) as gateway:
        assert gateway.ready()["proofs"]["tone"].startswith("not distinguishable")


def test_an_adapter_without_a_smoke_report_needs_an_override(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    joy = share.adapter("tone", "joy")
    share.publish(share.release(joy, reports={}, override_reason="a trial"))
    with GatewayProcess(share.root) as gateway:
        gateway.ready()
        assert gateway.health()["proofs"]["tone"].startswith("not proven")
        assert "a trial" in gateway.health()["proofs"]["tone"]
        share.publish(share.release(share.adapter("tone", "red"), reports={}))
        health = gateway.wait(lambda health: health["failed"])
        assert "has no smoke report and no override" in health["failed"]["error"]


def test_a_missing_adapter_folder_fails_the_start(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path)
    joy = share.adapter("tone", "joy")
    share.publish(share.release(joy))
    shutil.rmtree(share.root / joy[0].path)
    with GatewayProcess(share.root) as gateway:
        health = gateway.wait(lambda health: health["phase"] == "failed")
        assert "is missing" in health["failed"]["error"]
        assert gateway.chat("tiny").status_code == 503
        gateway.ready(share.publish(share.release(share.adapter("tone", "red"))))
