"""The gateway's API, seen from a client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from nbtoolkit.serving.release import EngineSettings
from tests.support.gateway_harness import KEY, GatewayProcess, ShareFolder, streamed_words


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that serves the base and two adapters, at most five requests at once."""
    share = ShareFolder(tmp_path_factory.mktemp("share"))
    engine = EngineSettings(max_batch=2, max_queue=3)
    share.publish(share.release(share.adapter("tone", "joy"), share.adapter("hue", "red"), engine=engine))
    with GatewayProcess(share.root, "--delay", "0.01", keepalive_interval=0.3) as gateway:
        gateway.ready()
        yield gateway


def test_models_lists_base_and_adapters_with_parent(gateway: GatewayProcess) -> None:
    models = {model["id"]: model for model in gateway.http.get("/v1/models").json()["data"]}
    assert list(models) == ["tiny", "tone", "hue"]
    assert models["tiny"]["parent"] is None
    assert models["tone"]["parent"] == "tiny"
    assert models["tone"]["sha256"] == gateway.health()["adapters"]["tone"]


@pytest.mark.parametrize(("model", "says"), [("tiny", "base"), ("tone", "joy"), ("hue", "red")])
def test_responses_contain_the_public_model_name_and_the_release(
    gateway: GatewayProcess, model: str, says: str
) -> None:
    mark = gateway.health()["adapters"].get(model, "base")[:16]
    whole = gateway.chat(model).json()
    assert whole["choices"][0]["message"]["content"].split() == [says] * 4
    assert (whole["model"], whole["system_fingerprint"]) == (model, mark)
    streamed = gateway.chat(model, stream=True).text
    assert streamed.count(f'"model":"{model}","system_fingerprint":"{mark}"') == 5
    assert '"a_' not in streamed


def test_completions_with_token_ids_reach_the_adapter(gateway: GatewayProcess) -> None:
    body = {"model": "hue", "prompt": [1, 2, 3], "max_tokens": 1}
    answer = gateway.http.post("/v1/completions", json=body).json()
    assert (answer["model"], answer["choices"][0]["text"]) == ("hue", "red")


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", KEY, f"Basic {KEY}", "Bearer"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/completions", "/metrics"])
def test_no_or_wrong_key_is_401(gateway: GatewayProcess, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    method = "POST" if "completions" in path else "GET"
    answer = httpx.request(method, f"http://127.0.0.1:{gateway.port}{path}", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/docs", "/redoc", "/openapi.json", "/v1",
        "/v1/embeddings", "/gradio_api/info", "/gradio_api/file=/etc/passwd", "/gradio_api/upload",
        "/gradio_api/proxy=http://example.org", "/monitoring", "/v1/models/../health", "/active", "/info",
    ],
)  # fmt: skip
def test_other_paths_are_404(gateway: GatewayProcess, path: str) -> None:
    for method in ("GET", "POST"):
        answer = gateway.http.request(method, path)
        assert answer.status_code == 404, method
        assert answer.json()["error"]["code"] == "not_found"


def test_unknown_model_is_404_and_lists_the_known_models(gateway: GatewayProcess) -> None:
    answer = gateway.chat("tonne")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "tiny, tone, hue" in answer.json()["error"]["message"]


def test_engine_names_are_not_public(gateway: GatewayProcess) -> None:
    assert gateway.chat(f"a_{gateway.health()['adapters']['tone'][:16]}").status_code == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"messages": []}', 400), (b'{"model": 3}', 400), (b"x" * (17 << 20), 413)],
)
def test_an_invalid_request_is_rejected(gateway: GatewayProcess, content: bytes, status: int) -> None:
    answer = gateway.http.post("/v1/chat/completions", content=content)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_engine_errors_keep_their_status_and_contain_public_names(
    gateway: GatewayProcess, stream: bool
) -> None:
    answer = gateway.chat("tone", "REFUSE", stream=stream)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The model tone does not want this"


def test_idle_streams_receive_comments(gateway: GatewayProcess) -> None:
    answer = gateway.chat("tone", "SILENT", stream=True, max_tokens=2)
    assert answer.status_code == 200
    assert answer.text.count(": waiting\n\n") >= 3
    assert answer.text.endswith("data: [DONE]\n\n")


def test_an_error_after_comments_is_an_event(gateway: GatewayProcess) -> None:
    answer = gateway.chat("tone", "SILENT CRASH", stream=True)
    assert answer.text.startswith(": waiting\n\n")
    last = answer.text.rstrip().rpartition("\n\n")[2]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "engine_restarting"
    gateway.wait(lambda health: health["phase"] == "ready" and health["engine"]["starts"] == 2)


def open_stream(gateway: GatewayProcess, tokens: int = 3000) -> Any:
    """Open a stream that runs until it is closed."""
    body = {"model": "tone", "stream": True, "max_tokens": tokens}
    body["messages"] = [{"role": "user", "content": "x"}]
    return gateway.http.stream("POST", "/v1/chat/completions", json=body)


def test_a_client_disconnect_ends_its_generation(gateway: GatewayProcess) -> None:
    before = gateway.metric("stub_disconnects")
    with open_stream(gateway) as stream:
        next(stream.iter_lines())
        assert gateway.metric("stub_active") == 1
    gateway.wait(lambda _: gateway.metric("stub_active") == 0, seconds=5)  # a complete response takes 30 s
    assert gateway.metric("stub_disconnects") == before + 1
    assert gateway.health()["in_flight"] == 0


def test_a_full_queue_is_429_and_probes_do_not_wait(gateway: GatewayProcess) -> None:
    with ExitStack() as held:
        for _ in range(5):
            assert held.enter_context(open_stream(gateway)).status_code == 200
        refused = gateway.chat("tone")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["code"] == "queue_full"
        assert gateway.http.get("/ready", timeout=1).status_code == 200
    gateway.wait(lambda health: health["in_flight"] == 0)
    assert gateway.chat("tone").status_code == 200


def test_not_ready_is_503_with_phase(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path / "share")
    with GatewayProcess(share.root, "--load-seconds", "0.6") as gateway:
        health = gateway.wait(lambda health: health["phase"] == "starting")
        assert health["release"] is None
        assert gateway.http.get("/ready").status_code == 200, "a first start must be ready"
        share.publish(share.release())
        gateway.wait(lambda health: health["detail"] == "loading weights")
        for answer in (gateway.chat("tiny"), gateway.http.get("/v1/models")):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert "loading" in answer.json()["error"]["message"]
        gateway.ready()
        assert gateway.chat("tiny").status_code == 200


def test_readiness_waits_behind_another_ready_replica(tmp_path: Path) -> None:
    share = ShareFolder(tmp_path / "share")
    share.publish(share.release())
    with GatewayProcess(share.root, replica="one") as one:
        one.ready()
        slow = ("--load-seconds", "60")
        with GatewayProcess(
            share.root, *slow, replica="two", heartbeat_max_age=5, ready_after=3, heartbeat_interval=0.2
        ) as two:
            two.wait(lambda health: health["detail"] == "loading weights")
            assert two.http.get("/ready").status_code == 503
            time.sleep(3)
            assert two.http.get("/ready").json()["reason"] == "waited long enough"
        assert share.heartbeat("two").phase == "stopped"
        assert share.heartbeat("one").phase == "ready"


def test_streams_end_with_done(gateway: GatewayProcess) -> None:
    body = {"model": "hue", "stream": True, "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body) as stream:
        assert streamed_words(stream) == ["red"] * 3


def test_metrics_of_gateway_and_engine_are_returned_together(gateway: GatewayProcess) -> None:
    text = gateway.http.get("/metrics").text
    assert 'nbtoolkit_requests_total{path="/v1/chat/completions",status="200"}' in text
    assert "stub_adapters 2" in text
