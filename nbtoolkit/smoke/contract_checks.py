"""The requests of check G7: health, models, fingerprint, answers and refusals of a running server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NbtoolkitError, NotReady
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.sse import STREAM_END, event_data

ADAPTER = "tested-adapter"
"""The public name under which the contract level serves the adapter."""

_PROMPT = {"role": "user", "content": "Say one word about the weather."}
_MAX_TOKENS = 12
_TIMEOUT = 300.0


@dataclass(frozen=True)
class ContractItem:
    """The result of one contract check."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class ContractCheck:
    """One point of the contract, not checked yet."""

    name: str
    check: Callable[[], tuple[bool, str]]

    def run(self) -> ContractItem:
        """Send the request; an error response is a failed item. Raises NotReady if the server is gone."""
        try:
            passed, detail = self.check()
        except NotReady:
            raise
        except (NbtoolkitError, httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            return ContractItem(self.name, False, f"{type(error).__name__}: {error}")
        return ContractItem(self.name, passed, detail)


def contract_checks(
    endpoint: Endpoint, release: Release, fingerprint: Fingerprint
) -> Iterator[ContractCheck]:
    """Yield the checks in their order."""
    client = _ContractClient(endpoint, release, fingerprint)
    yield ContractCheck("health", client.health)
    yield ContractCheck("models", client.models)
    yield ContractCheck("fingerprint", client.proves_fingerprint)
    yield ContractCheck("non-stream", client.non_stream)
    yield ContractCheck("stream", client.stream)
    yield ContractCheck("history", client.history)
    yield ContractCheck("unknown model", client.unknown_model)
    yield ContractCheck("no key", client.no_key)


class _ContractClient:
    def __init__(self, endpoint: Endpoint, release: Release, fingerprint: Fingerprint) -> None:
        self._endpoint, self._release, self._fingerprint = endpoint, release, fingerprint
        self._url = f"{endpoint.url}/v1/chat/completions"
        self._headers = {"Authorization": f"Bearer {endpoint.key.get_secret_value()}"}
        self._prompt_tokens = 0
        """Tokens of :data:`_PROMPT` with its template."""

    def health(self) -> tuple[bool, str]:
        health = self._endpoint.health()
        sha256 = health.adapters.get(ADAPTER)
        serves = health.phase == "ready" and health.release == self._release.id
        return serves and sha256 == self._fingerprint.adapter_sha256, (
            f"phase {health.phase}, release {health.release}, adapter {(sha256 or 'none')[:16]}"
        )

    def models(self) -> tuple[bool, str]:
        parents = {model.id: model.parent for model in self._endpoint.models()}
        base = self._release.base.name if self._release.base else ""
        return parents.get(ADAPTER) == base and base in parents and not parents[base], (
            f"{ADAPTER} has parent {parents.get(ADAPTER)}; listed are {', '.join(parents)}"
        )

    def proves_fingerprint(self) -> tuple[bool, str]:
        verdict = self._endpoint.prove(self._fingerprint, ADAPTER)
        return bool(verdict), str(verdict)

    def non_stream(self) -> tuple[bool, str]:
        answer = self._chat([_PROMPT])
        self._prompt_tokens = answer["usage"]["prompt_tokens"]
        choice = answer["choices"][0]
        content, reason = choice["message"]["content"], choice["finish_reason"]
        complete = isinstance(content, str) and reason in ("stop", "length")
        return complete and answer["model"] == ADAPTER, (
            f"{answer['usage']['completion_tokens']} tokens, finish_reason {reason}, {content!r}"
        )

    def stream(self) -> tuple[bool, str]:
        pieces: list[str] = []
        reason: str | None = None
        done = False
        with httpx.stream("POST", self._url, **self._options(self._body([_PROMPT], stream=True))) as response:
            if response.status_code != 200:
                return False, f"status {response.status_code}: {response.read()[:300]!r}"
            for data in event_data(response.iter_lines()):
                if data == STREAM_END:
                    done = True
                    break
                for choice in json.loads(data)["choices"]:
                    pieces.append(choice["delta"].get("content") or "")
                    reason = choice.get("finish_reason") or reason
        return done and reason in ("stop", "length"), (
            f"{len(pieces)} pieces, finish_reason {reason}, {'[DONE]' if done else 'no [DONE]'}"
        )

    def history(self) -> tuple[bool, str]:
        answer = self._chat(
            [
                _PROMPT,
                {"role": "assistant", "content": "Sunny."},
                {"role": "user", "content": "And tomorrow?"},
            ]
        )
        tokens = answer["usage"]["prompt_tokens"]
        return tokens > self._prompt_tokens, (
            f"{tokens} prompt tokens with history, {self._prompt_tokens} without"
        )

    def unknown_model(self) -> tuple[bool, str]:
        return self._is_refused(404, {**self._body([_PROMPT]), "model": "nobody"})

    def no_key(self) -> tuple[bool, str]:
        return self._is_refused(401, self._body([_PROMPT]), headers={})

    def _is_refused(
        self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[bool, str]:
        response = httpx.post(self._url, **self._options(body, headers))
        has_error = isinstance(response.json().get("error"), dict)
        return response.status_code == status and has_error, (
            f"status {response.status_code}, expected {status}"
        )

    def _chat(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        response = httpx.post(self._url, **self._options(self._body(messages)))
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}: {response.text[:300]}")
        return response.json()

    def _body(self, messages: list[dict[str, str]], *, stream: bool = False) -> dict[str, Any]:
        return {
            "model": ADAPTER,
            "messages": messages,
            "max_tokens": _MAX_TOKENS,
            "temperature": 0,
            "stream": stream,
        }

    def _options(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        sent = self._headers if headers is None else headers
        return {"json": body, "headers": sent, "timeout": _TIMEOUT, "trust_env": False}
