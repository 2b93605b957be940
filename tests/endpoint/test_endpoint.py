"""The endpoint client against a server with scripted responses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import Cancelled, InvalidSettings, NotReady, RequestRefused
from nbtoolkit.progress import Progress
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
from tests.support.recording_progress import RecordingProgress

KEY = "nbt-very-secret-key"
READY = (200, {"phase": "ready", "release": "r-1", "adapters": {"tone": "a" * 64}})
LOADING = (200, {"phase": "loading"})
MODELS = (200, {"data": [{"id": "tiny"}, {"id": "tone", "parent": "tiny", "sha256": "a" * 64}]})


class ScriptedServer:
    """Respond with a sequence, then repeat its last response; record the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.broken_off = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(None)

            def do_POST(self) -> None:
                self.answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def answer(self, body: Any) -> None:
                script.asked.append((self.path, dict(self.headers), body))
                answers = script.answers[self.path]
                status, content, *headers = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                if isinstance(content, list):
                    self.stream(content)
                    return
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def stream(self, lines: list[str]) -> None:
                self.send_header("connection", "close")
                self.end_headers()
                try:
                    for line in lines:
                        self.wfile.write(f"{line}\n\n".encode())
                        self.wfile.flush()
                        if line == ": wait":
                            threading.Event().wait(0.05)
                except OSError:
                    script.broken_off.set()
                self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, KEY)


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    script = ScriptedServer()
    thread = threading.Thread(target=script.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield script
    script.server.shutdown()
    script.server.server_close()
    thread.join()


def piece(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})


def test_key_is_never_shown() -> None:
    endpoint = Endpoint("https://a.example/", KEY, release='<img src=x onerror="alert(1)">')
    assert endpoint.url == "https://a.example"
    for shown in (repr(endpoint), str(endpoint), endpoint._repr_html_(), f"{endpoint.__dict__}"):
        assert KEY not in shown
    assert "<img" not in endpoint._repr_html_()
    assert 'href="https://a.example"' in endpoint._repr_html_()


def test_url_without_scheme_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"'a\.example'.*https://"):
        Endpoint("a.example", KEY)


def test_chat_streams_the_chunks_and_sends_the_settings(script: ScriptedServer) -> None:
    events = [": queued", piece("Guten "), piece("Tag"), piece(""), "data: [DONE]"]
    script.answers = {"/v1/chat/completions": [(200, events)]}
    stream = script.endpoint().chat("hello", "tone", max_tokens=5, temperature=0)
    assert list(stream) == ["Guten ", "Tag"]
    path, headers, body = script.asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tone",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
        "max_tokens": 5,
        "temperature": 0,
    }


def test_chat_accepts_messages_and_returns_a_complete_answer(script: ScriptedServer) -> None:
    script.answers = {"/v1/chat/completions": [(200, {"choices": [{"message": {"content": "four"}}]})]}
    messages = [{"role": "system", "content": "be short"}, {"role": "user", "content": "2+2?"}]
    assert script.endpoint().chat(messages, "tone", stream=False) == "four"
    assert script.asked[0][2]["messages"] == messages


def test_completion_sends_plain_text_and_returns_the_continuation(script: ScriptedServer) -> None:
    script.answers = {"/v1/completions": [(200, {"choices": [{"text": " there"}]})]}
    assert script.endpoint().complete("Hello", "tone", max_tokens=3) == " there"
    assert script.asked[0][2] == {"model": "tone", "prompt": "Hello", "max_tokens": 3}


def test_chat_without_a_name_uses_the_only_adapter(script: ScriptedServer) -> None:
    script.answers = {
        "/v1/models": [MODELS],
        "/v1/chat/completions": [(200, {"choices": [{"message": {"content": "x"}}]})],
    }
    script.endpoint().chat("hi", stream=False)
    assert script.asked[-1][2]["model"] == "tone"


def test_chat_without_a_name_among_several_names_them(script: ScriptedServer) -> None:
    several = {"data": [{"id": "tiny"}, {"id": "a", "parent": "tiny"}, {"id": "b", "parent": "tiny"}]}
    script.answers = {"/v1/models": [(200, several)]}
    with pytest.raises(InvalidSettings, match=r"model='tiny' or 'a' or 'b'"):
        script.endpoint().chat("hi", stream=False)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "header", "step"),
    [
        (401, "invalid_api_key", None, r"target\.endpoint\(\)"),
        (404, "model_not_found", None, r"endpoint\.models\(\)"),
        (400, "context_length_exceeded", None, "correct the request"),
        (429, "queue_full", "7", "again in 7 s"),
        (503, "not_ready", "2", r"endpoint\.wait\(\)"),
        (500, None, None, r"logs\(\)"),
    ],
)
def test_refusal_has_status_code_reason_and_next_step(
    script: ScriptedServer, stream: bool, status: int, code: str | None, header: str | None, step: str
) -> None:
    error = {"error": {"message": f"because {code}", "code": code}}
    headers = [("Retry-After", header)] if header else []
    script.answers = {"/v1/chat/completions": [(status, error, *headers)]}
    with pytest.raises(RequestRefused, match=f"because {code}") as caught:
        list(script.endpoint().chat("hi", "tone", stream=stream))  # type: ignore[call-overload]
    facts = vars(caught.value)
    assert (facts["status"], facts["code"]) == (status, code)
    assert facts["retry_after"] == (float(header) if header else None)
    assert re.search(step, caught.value.next_step)
    assert KEY not in str(caught.value)


def test_refusal_by_another_server_is_quoted(script: ScriptedServer) -> None:
    script.answers = {"/v1/models": [(502, b"<html>upstream connect error</html>")]}
    with pytest.raises(RequestRefused, match="502: <html>upstream"):
        script.endpoint().models()


def test_error_within_a_stream_is_raised_after_its_chunks(script: ScriptedServer) -> None:
    error = "data: " + json.dumps({"error": {"message": "the engine died", "code": "engine_died"}})
    script.answers = {"/v1/chat/completions": [(200, [piece("Gu"), error])]}
    stream = script.endpoint().chat("hi", "tone")
    assert next(stream) == "Gu"
    with pytest.raises(RequestRefused, match="the engine died"):
        next(stream)


def test_closed_stream_ends_the_request(script: ScriptedServer) -> None:
    script.answers = {"/v1/chat/completions": [(200, [piece("Gu"), *[": wait"] * 200])]}
    stream = script.endpoint().chat("hi", "tone")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert script.broken_off.wait(5)


def test_models_have_their_parent(script: ScriptedServer) -> None:
    script.answers = {"/v1/models": [MODELS]}
    base, adapter = script.endpoint().models()
    assert (base.id, base.parent) == ("tiny", None)
    assert (adapter.id, adapter.parent, adapter.sha256) == ("tone", "tiny", "a" * 64)


def test_wait_reports_each_reason_once_and_returns_the_endpoint(script: ScriptedServer) -> None:
    script.answers = {"/health": [LOADING, LOADING, (502, b"bad gateway"), READY]}
    notes = RecordingProgress()
    endpoint = script.endpoint()
    assert endpoint.wait(timeout=10, progress=notes) is endpoint
    assert notes.lines[1] == "the server is loading"
    assert "502" in notes.lines[2]
    assert len(notes.lines) == 3


def test_wait_times_out_with_the_reason(script: ScriptedServer) -> None:
    script.answers = {"/health": [LOADING]}
    with pytest.raises(NotReady, match="the server is loading") as caught:
        script.endpoint().wait(timeout=0.2)
    assert isinstance(caught.value, TimeoutError)


def test_wait_can_be_cancelled(script: ScriptedServer) -> None:
    script.answers = {"/health": [LOADING]}
    progress = Progress()
    timer = threading.Timer(0.2, progress.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        script.endpoint().wait(timeout=30, progress=progress)
    timer.join()


def test_nothing_listening_is_not_ready() -> None:
    endpoint = Endpoint("http://127.0.0.1:1", KEY)
    with pytest.raises(NotReady, match="does not answer"):
        endpoint.models()
    with pytest.raises(NotReady, match="does not answer"):
        list(endpoint.chat("hi", "tone"))
    assert not endpoint.reachable()


def test_health_keeps_unknown_fields(script: ScriptedServer) -> None:
    script.answers = {"/health": [(503, {"phase": "loading", "detail": "weights", "n": 3})]}
    health = script.endpoint().health()
    assert health.phase == "loading"
    assert health.model_extra == {"detail": "weights", "n": 3}


def test_replay_is_in_order_and_names_the_release(script: ScriptedServer) -> None:
    def choice(index: int, token: int) -> dict[str, Any]:
        return {
            "index": index,
            "logprobs": {"top_logprobs": [{f"token_id:{token}": -0.5, "token_id:9": -2.0}]},
        }

    answer = {"choices": [choice(1, 11), choice(0, 10)], "system_fingerprint": "abc"}
    script.answers = {"/v1/completions": [(200, answer)]}
    replay = script.endpoint().replay_named("tone", [(1, 2), (3,)])
    assert replay.answers == [{10: -0.5, 9: -2.0}, {11: -0.5, 9: -2.0}]
    assert replay.by == "abc"
    body = script.asked[0][2]
    assert body["prompt"] == [[1, 2], [3]]
    assert (body["max_tokens"], body["logprobs"], body["temperature"]) == (1, 5, 0)
    assert body["return_tokens_as_token_ids"] is True


@pytest.mark.parametrize(
    ("tuned", "base", "outcome"),
    [(-0.1, -3.0, "proven"), (-3.0, -3.0, "adapter differs"), (-0.1, -0.1, "base differs")],
)
def test_prove_replays_the_fingerprint_under_both_names(
    script: ScriptedServer, tuned: float, base: float, outcome: str
) -> None:
    def answered(top: float) -> tuple[int, Any]:
        tops = {"token_id:5": top, "token_id:6": -3.1 - top}
        return 200, {"choices": [{"index": 0, "logprobs": {"top_logprobs": [tops]}}]}

    probe = Probe(context=(1,), base={5: -3.0, 6: -0.1}, adapter={5: -0.1, 6: -3.0}, noise={"float32": 0.01})
    fingerprint = Fingerprint(adapter_sha256="a" * 64, base_sha256="b" * 64, dtype="float32", probes=(probe,))
    script.answers = {
        "/v1/models": [MODELS],
        "/v1/completions": [answered(tuned), answered(base)],
        "/health": [READY],
    }
    assert script.endpoint().prove(fingerprint, "tone").outcome == outcome
    assert [body["model"] for path, _, body in script.asked if path == "/v1/completions"] == ["tone", "tiny"]


def test_loopback_requests_use_no_proxy(script: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    script.answers = {"/v1/models": [MODELS], "/health": [READY]}
    assert script.endpoint().wait(timeout=1)
    assert len(script.endpoint().models()) == 2
    with script.endpoint().openai() as client:
        assert [model.id for model in client.models.list()] == ["tiny", "tone"]
