"""The OpenAI API of the engine process, tested with the openai client over a socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.processes import free_port
from tests.support.tiny_models import tiny_adapter, tiny_base

KEY = "engine-key"
ADAPTER = "a_0123456789abcdef"


class Server:
    """A running engine process."""

    def __init__(self, base: Path, **settings: Any) -> None:
        port = free_port()
        options = {
            "port": port,
            "base": {"name": "tiny", "path": str(base)},
            "tokenizer_path": str(base),
            "max_batch": 4,
            **settings,
        }
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nbtoolkit.serving.engines.transformers",
                "--settings",
                json.dumps(options),
            ],
            env={**os.environ, "NBTOOLKIT_ENGINE_KEY": KEY, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,  # the engine ends with it
        )
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
        )
        self.phases: list[str] = []

    def wait(self) -> dict[str, Any]:
        for _ in range(1200):
            time.sleep(0.05)
            try:
                answer = self.http.get("/health")
            except httpx.TransportError:
                assert self.process.poll() is None
                continue
            facts = answer.json()
            self.phases.append(facts["phase"])
            assert (answer.status_code == 200) == (facts["phase"] == "ready")
            if facts["phase"] in ("ready", "failed"):
                return facts
        raise AssertionError("the engine did not become ready")

    def idle(self) -> bool:
        """Wait until no row is in use."""
        for _ in range(200):
            if not self.http.get("/health").json()["rows"]:
                return True
            time.sleep(0.05)
        return False

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={"model": "tiny", **body})

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin
        self.process.stdin.close()
        self.http.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("engine")
    base = tiny_base(root / "base", max_length=4096)
    return base, tiny_adapter(root / "adapter", base)


@pytest.fixture(scope="module")
def server(folders: tuple[Path, Path]) -> Iterator[Server]:
    server = Server(folders[0])
    assert server.wait()["phase"] == "ready"
    answer = server.post("/v1/load_lora_adapter", lora_name=ADAPTER, lora_path=str(folders[1]))
    assert (answer.status_code, "added successfully" in answer.text) == (200, True)
    yield server
    server.end()


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, http_client=httpx.Client(trust_env=False)
    ) as client:
        yield client


USER: list[Any] = [{"role": "user", "content": "hi 🙂"}]


def test_health_returns_the_phase_before_the_model_is_loaded(server: Server) -> None:
    assert server.phases[0] != "ready"
    assert server.phases[-1] == "ready"
    facts = server.http.get("/health").json()
    assert {k: facts[k] for k in ("batching", "device", "dtype", "rows", "waiting")} == {
        "batching": "batched",
        "device": "cpu",
        "dtype": "float32",
        "rows": 0,
        "waiting": 0,
    }


def test_models_lists_the_base_and_an_adapter_with_its_parent(client: openai.OpenAI) -> None:
    assert [(model.id, model.parent) for model in client.models.list()] == [("tiny", None), (ADAPTER, "tiny")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", ["tiny", ADAPTER])
def test_a_streamed_chat_equals_an_unstreamed_one(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"model": model, "messages": USER, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**fields)
    chunks = list(
        client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert set(reasons[:-1]) == {None}
    assert reasons[-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_base_and_adapter_return_different_text(client: openai.OpenAI) -> None:
    texts = {
        client.completions.create(model=model, prompt="the cat", max_tokens=12, temperature=0).choices[0].text
        for model in ("tiny", ADAPTER)
    }
    assert len(texts) == 2


def test_a_stream_ends_with_done(server: Server) -> None:
    answer = server.post("/v1/completions", prompt="a", max_tokens=2, stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")


def test_history_and_system_message_are_in_the_prompt(client: openai.OpenAI) -> None:
    def tokens(messages: list[Any]) -> int:
        answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=1)
        assert answer.usage
        return answer.usage.prompt_tokens

    parts = [{"role": "user", "content": [{"type": "text", "text": "hi 🙂"}]}]
    history = [{"role": "system", "content": "be brief"}, *USER, {"role": "assistant", "content": "a"}, *USER]
    assert tokens(parts) == tokens(USER)
    assert tokens(history) > 2 * tokens(USER)


def test_choices_of_several_prompts_are_numbered(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt=["the cat", "a dog"], n=2, max_tokens=8, temperature=0
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1] != texts[2] == texts[3]
    ids = client.completions.create(model="tiny", prompt=[[1, 2, 3], [4, 5]], max_tokens=1)
    assert ids.usage
    assert ids.usage.prompt_tokens == 5


def test_a_seed_is_reproducible_and_each_of_n_choices_differs(client: openai.OpenAI) -> None:
    def texts() -> list[str]:
        answer = client.completions.create(
            model="tiny", prompt="a", n=3, seed=5, temperature=1.5, top_p=0.95, max_tokens=12
        )
        return [choice.text for choice in answer.choices]

    assert texts() == texts()
    assert len(set(texts())) == 3


def test_completion_logprobs_name_tokens_as_ids_on_request(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny",
        prompt=[[1, 2, 3], [7, 8]],
        max_tokens=1,
        temperature=0,
        logprobs=5,
        extra_body={"return_tokens_as_token_ids": True},
    )
    for choice in answer.choices:
        logprobs = choice.logprobs
        assert logprobs
        assert logprobs.tokens
        assert logprobs.token_logprobs
        assert logprobs.top_logprobs
        assert len(logprobs.top_logprobs[0]) == 5
        assert all(name.startswith("token_id:") for name in logprobs.top_logprobs[0])
        assert logprobs.top_logprobs[0][logprobs.tokens[0]] == max(logprobs.top_logprobs[0].values())
        assert logprobs.token_logprobs[0] == logprobs.top_logprobs[0][logprobs.tokens[0]]
        assert logprobs.text_offset == [0]


def test_chat_logprobs_are_equal_streamed_and_unstreamed(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "model": "tiny",
        "messages": USER,
        "max_tokens": 6,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = client.chat.completions.create(**fields).choices[0].logprobs
    assert whole
    assert whole.content
    assert [len(token.top_logprobs) for token in whole.content] == [2] * 6
    assert all(token.logprob == token.top_logprobs[0].logprob for token in whole.content)
    streamed = [
        token
        for chunk in client.chat.completions.create(**fields, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == whole.content


def test_a_stop_string_ends_the_text_and_is_not_in_it(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "tiny", "prompt": "the cat", "max_tokens": 60, "temperature": 0}
    text = client.completions.create(**fields).choices[0].text
    stop = text[7:9]
    for answer in (
        client.completions.create(**fields, stop=stop).choices[0],
        client.completions.create(**fields, stop=["never there", stop]).choices[0],
    ):
        assert (answer.text, answer.finish_reason) == (text[: text.index(stop)], "stop")


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("completions", {"model": "nobody", "prompt": "a"}, 404, ["nobody", "tiny", ADAPTER]),
        ("completions", {"prompt": "a", "temperature": -1}, 400, ["temperature"]),
        ("completions", {"prompt": "a", "temperature": "hot"}, 400, ["temperature"]),
        ("completions", {"prompt": "a", "top_p": 0}, 400, ["top_p"]),
        ("completions", {"prompt": "a", "n": 0}, 400, ["n"]),
        ("completions", {"prompt": ["a"] * 5, "n": 60}, 400, ["300 answers", "256"]),
        ("completions", {"prompt": "a", "stream": "true"}, 400, ["stream"]),
        ("completions", {"prompt": "a", "stream": 1}, 400, ["stream"]),
        ("completions", {"prompt": None}, 400, ["prompt"]),
        ("completions", {"prompt": "a", "max_tokens": 0}, 400, ["max_tokens"]),
        ("completions", {"prompt": "a", "logprobs": 21}, 400, ["logprobs"]),
        ("completions", {"prompt": []}, 400, ["prompt"]),
        ("completions", {"prompt": ""}, 400, ["prompt"]),
        ("completions", {"prompt": [1, 99999]}, 400, ["99999"]),
        ("completions", {"prompt": [1] * 5000}, 400, ["4096", "5000"]),
        ("completions", {"prompt": [1] * 4000, "max_tokens": 200}, 400, ["4096", "4200"]),
        ("completions", {"prompt": "a", "echo": True}, 400, ["echo"]),
        ("completions", {"prompt": "a", "best_of": 3}, 400, ["best_of"]),
        ("completions", {"prompt": "a", "stream_options": {"include_usage": True}}, 400, ["stream"]),
        ("chat/completions", {"messages": []}, 400, ["messages"]),
        ("chat/completions", {"messages": "hi"}, 400, ["messages"]),
        ("chat/completions", {"messages": USER, "top_logprobs": 3}, 400, ["logprobs"]),
        ("chat/completions", {"messages": USER, "tools": [{"type": "function"}]}, 400, ["tools"]),
        (
            "chat/completions",
            {"messages": USER, "response_format": {"type": "json_object"}},
            400,
            ["response_format"],
        ),
    ],
)
def test_an_unsupported_request_returns_an_openai_error(
    server: Server, path: str, body: dict[str, Any], status: int, words: list[str]
) -> None:
    answer = server.post(f"/v1/{path}", **body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"]


def test_unknown_and_neutral_fields_are_accepted(server: Server) -> None:
    answer = server.post(
        "/v1/chat/completions",
        messages=USER,
        max_tokens=1,
        user="me",
        frequency_penalty=0,
        tools=None,
        logit_bias={},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize(
    "name", ["n", "stream", "stream_options", "max_tokens", "temperature", "stop", "ignore_eos", "best_of"]
)
def test_a_null_field_has_its_default(server: Server, path: str, name: str) -> None:
    fields: dict[str, Any] = {"prompt": "a"} if path == "completions" else {"messages": USER}
    if name == "max_tokens" and "messages" in fields:  # else the answer fills the context: 4,096 tokens
        text = server.post(f"/v1/{path}", **fields, temperature=0, max_tokens=32).json()
        fields["stop"] = text["choices"][0]["message"]["content"].strip()[:1] or None
    answer = server.post(f"/v1/{path}", **fields, **{"temperature": 0, "max_tokens": 2, name: None})
    assert answer.status_code == 200
    assert len(answer.json()["choices"]) == 1


def test_only_health_needs_no_key(server: Server) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as without_key:
        assert without_key.get("/health").status_code == 200
        assert without_key.get("/v1/models").status_code == 401
        wrong = without_key.post("/v1/completions", headers={"Authorization": "Bearer wrong"}, json={})
        assert wrong.status_code == 401


def test_a_client_disconnect_frees_its_rows(server: Server) -> None:
    body = {"model": "tiny", "prompt": "a", "n": 4, "max_tokens": 4000, "ignore_eos": True}
    with server.http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        next(answer.iter_lines())
    assert server.idle()
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v1/completions", json=body, timeout=0.5)
    assert server.idle()


def test_more_requests_than_rows_are_queued(server: Server, client: openai.OpenAI) -> None:
    answer = client.completions.create(model="tiny", prompt="a", n=11, max_tokens=5, temperature=0)
    assert len({choice.text for choice in answer.choices}) == 1
    assert "nbtoolkit_engine_generated_tokens_total" in server.http.get("/metrics").text


def test_an_adapter_that_does_not_fit_is_rejected_with_its_keys(
    server: Server, tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    other = tiny_adapter(tmp_path / "other", tiny_base(tmp_path / "phi3", "phi3"))
    answer = server.post("/v1/load_lora_adapter", lora_name="a_other", lora_path=str(other))
    assert answer.status_code == 400
    assert any("qkv_proj" in key for key in answer.json()["error"]["unexpected_keys"])
    again = server.post("/v1/load_lora_adapter", lora_name=ADAPTER, lora_path=str(folders[1]))
    assert (again.status_code, "already" in again.text) == (400, True)
    assert server.post("/v1/unload_lora_adapter", lora_name="a_other").status_code == 404


def test_an_adapter_loaded_again_while_a_stream_still_uses_it_is_kept(
    server: Server, client: openai.OpenAI, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    name, other = "a_back", tiny_adapter(tmp_path / "other", folders[0], seed=9)
    adapter = {"lora_name": name, "lora_path": str(folders[1])}
    assert server.post("/v1/load_lora_adapter", **adapter).status_code == 200
    stream = client.completions.create(
        model=name, prompt="a", max_tokens=600, temperature=0, stream=True, extra_body={"ignore_eos": True}
    )
    next(stream)
    assert server.post("/v1/unload_lora_adapter", lora_name=name).status_code == 200
    changed = server.post("/v1/load_lora_adapter", lora_name=name, lora_path=str(other))
    assert (changed.status_code, "already" in changed.text) == (400, True)
    assert server.post("/v1/load_lora_adapter", **adapter).status_code == 200
    assert [choice.choices[0].finish_reason for choice in stream][-1] == "length"
    assert server.post("/v1/completions", model=name, prompt="a", max_tokens=1).status_code == 200
    assert server.post("/v1/unload_lora_adapter", lora_name=name).status_code == 200
    assert server.idle()
    assert server.post("/v1/load_lora_adapter", **adapter).status_code == 200, (
        "the adapter was not unloaded after its last stream"
    )
    assert server.post("/v1/unload_lora_adapter", lora_name=name).status_code == 200


def test_an_unloaded_adapter_is_not_listed_and_running_streams_finish(
    server: Server, client: openai.OpenAI, folders: tuple[Path, Path]
) -> None:
    name = "a_second"
    assert server.post("/v1/load_lora_adapter", lora_name=name, lora_path=str(folders[1])).status_code == 200
    fields: dict[str, Any] = {"prompt": "the cat", "max_tokens": 300, "temperature": 0}
    expected = client.completions.create(model=ADAPTER, **fields).choices[0]
    stream = client.completions.create(model=name, **fields, stream=True)
    pieces = [next(stream)]
    assert server.post("/v1/unload_lora_adapter", lora_name=name).status_code == 200
    assert server.post("/v1/completions", model=name, prompt="a").status_code == 404
    pieces += list(stream)
    assert "".join(piece.choices[0].text for piece in pieces) == expected.text
    assert pieces[-1].choices[0].finish_reason == expected.finish_reason
