"""What G7 asks the server, one question after the other."""

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

ADAPTER = "tested-adapter"
"""The public name under which the contract level serves the adapter."""

_FIRST = "Say one word about the weather."
_TOKENS = 12
_SECONDS = 300.0


@dataclass(frozen=True)
class Item:
    """One point of the contract: whether it holds, and what was seen."""

    name: str
    fine: bool
    said: str


@dataclass(frozen=True)
class Question:
    """A point still to be asked."""

    name: str
    ask: Callable[[], tuple[bool, str]]

    def answer(self) -> Item:
        """Ask; what the server refuses or breaks off is an answer too. Raises NotReady where it is gone."""
        try:
            fine, said = self.ask()
        except NotReady:
            raise
        except (NbtoolkitError, httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            return Item(self.name, False, f"{type(error).__name__}: {error}")
        return Item(self.name, fine, said)


def questions(endpoint: Endpoint, release: Release, fingerprint: Fingerprint) -> Iterator[Question]:
    """Yield the points in the order of ``adapter-checks``: health, models, fingerprint, answers, refusals."""
    asked = _Asked(endpoint, release, fingerprint)
    yield Question("health", asked.health)
    yield Question("models", asked.models)
    yield Question("fingerprint", asked.fingerprint_holds)
    yield Question("non-stream", asked.non_stream)
    yield Question("stream", asked.stream)
    yield Question("history", asked.history)
    yield Question("unknown model", asked.unknown_model)
    yield Question("no key", asked.no_key)


class _Asked:
    def __init__(self, endpoint: Endpoint, release: Release, fingerprint: Fingerprint) -> None:
        self.endpoint, self.release, self.fingerprint = endpoint, release, fingerprint
        self.first_prompt_tokens = 0

    def health(self) -> tuple[bool, str]:
        found = self.endpoint.health()
        sha256 = found.adapters.get(ADAPTER)
        right = found.phase == "ready" and found.release == self.release.id
        return right and sha256 == self.fingerprint.adapter_sha256, (
            f"phase {found.phase}, release {found.release}, adapter {(sha256 or 'none')[:16]}"
        )

    def models(self) -> tuple[bool, str]:
        served = {model.id: model.parent for model in self.endpoint.models()}
        base = self.release.base.name if self.release.base else ""
        return served.get(ADAPTER) == base and base in served and not served[base], (
            f"{ADAPTER} has parent {served.get(ADAPTER)}; listed are {', '.join(served)}"
        )

    def fingerprint_holds(self) -> tuple[bool, str]:
        verdict = self.endpoint.prove(self.fingerprint, ADAPTER)
        return bool(verdict), str(verdict)

    def non_stream(self) -> tuple[bool, str]:
        answer = self._chat([{"role": "user", "content": _FIRST}])
        self.first_prompt_tokens = answer["usage"]["prompt_tokens"]
        choice = answer["choices"][0]
        right = isinstance(choice["message"]["content"], str) and choice["finish_reason"] in (
            "stop",
            "length",
        )
        return right and answer["model"] == ADAPTER, (
            f"{answer['usage']['completion_tokens']} tokens, finish_reason {choice['finish_reason']}, "
            f"{choice['message']['content']!r}"
        )

    def stream(self) -> tuple[bool, str]:
        body = self._body([{"role": "user", "content": _FIRST}], stream=True)
        pieces: list[str] = []
        reason: str | None = None
        done = False
        with httpx.stream(
            "POST", self._url, json=body, headers=self._headers, timeout=_SECONDS, trust_env=False
        ) as answer:
            if answer.status_code != 200:
                return False, f"status {answer.status_code}: {answer.read()[:300]!r}"
            for line in answer.iter_lines():
                data = line.removeprefix("data: ")
                if data == line:
                    continue  # an empty line, or a comment while queued
                if data == "[DONE]":
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
                {"role": "user", "content": _FIRST},
                {"role": "assistant", "content": "Sunny."},
                {"role": "user", "content": "And tomorrow?"},
            ]
        )
        tokens = answer["usage"]["prompt_tokens"]
        return tokens > self.first_prompt_tokens, (
            f"{tokens} prompt tokens with history, {self.first_prompt_tokens} without"
        )

    def unknown_model(self) -> tuple[bool, str]:
        return self._refused(404, {**self._body([{"role": "user", "content": _FIRST}]), "model": "nobody"})

    def no_key(self) -> tuple[bool, str]:
        return self._refused(401, self._body([{"role": "user", "content": _FIRST}]), headers={})

    def _refused(
        self, wanted: int, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> tuple[bool, str]:
        sent = self._headers if headers is None else headers
        answer = httpx.post(self._url, json=body, headers=sent, timeout=_SECONDS, trust_env=False)
        shaped = isinstance(answer.json().get("error"), dict)
        return answer.status_code == wanted and shaped, f"status {answer.status_code}, wanted {wanted}"

    def _chat(self, messages: list[dict[str, str]]) -> dict[str, Any]:
        answer = httpx.post(
            self._url,
            json=self._body(messages),
            headers=self._headers,
            timeout=_SECONDS,
            trust_env=False,
        )
        if answer.status_code != 200:
            raise ValueError(f"status {answer.status_code}: {answer.text[:300]}")
        return answer.json()

    def _body(self, messages: list[dict[str, str]], *, stream: bool = False) -> dict[str, Any]:
        return {
            "model": ADAPTER,
            "messages": messages,
            "max_tokens": _TOKENS,
            "temperature": 0,
            "stream": stream,
        }

    @property
    def _url(self) -> str:
        return f"{self.endpoint.url}/v1/chat/completions"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.endpoint.key.get_secret_value()}"}
