"""HTTP client of the engine, over loopback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

import httpx

from ..fingerprint import Logprobs
from .published_releases import NotServable


class EngineUnreachable(Exception):
    """The engine does not respond: it has ended or is ending."""


class EngineClient:
    """One engine's HTTP interface."""

    def __init__(self, port: int, key: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            # An answer may take any time: a request ends when the process ends, not by a timeout.
            timeout=httpx.Timeout(None, connect=10),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections, which cancels all running answers."""
        await self._http.aclose()

    async def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether the engine is ready, and the body of its /health; raise EngineUnreachable."""
        try:
            response = await self._http.get("/health", timeout=10)
            content: Any = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EngineUnreachable(str(error)) from None
        body = cast(dict[str, Any], content) if isinstance(content, dict) else {}
        return response.status_code == 200, body

    async def metrics(self) -> str:
        """Return the engine's metrics as Prometheus text."""
        try:
            response = await self._http.get("/metrics", timeout=5)
        except httpx.HTTPError as error:
            raise EngineUnreachable(str(error)) from None
        return response.text if response.status_code == 200 else ""

    async def load(self, name: str, folder: str) -> None:
        """Load an adapter under a name; raise NotServable with the engine's reason."""
        response = await self._post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder})
        if response.status_code != 200:
            raise NotServable(f"the engine refused the adapter: {error_text(response.content)}")

    async def unload(self, name: str) -> None:
        """Unload an adapter; succeeds if the engine does not have it any more."""
        response = await self._post("/v1/unload_lora_adapter", {"lora_name": name})
        if response.status_code not in (200, 404, 500):
            raise NotServable(f"the engine did not unload adapter {name}: {error_text(response.content)}")

    async def replay(self, model: str, contexts: Sequence[Sequence[int]]) -> list[Logprobs]:
        """Return the most likely next tokens of every context: token id → log-probability."""
        body = {
            "model": model,
            "prompt": [list(context) for context in contexts],
            "max_tokens": 1,
            "logprobs": 5,
            "temperature": 0,
            "return_tokens_as_token_ids": True,
        }
        response = await self._post("/v1/completions", body)
        if response.status_code != 200:
            raise NotServable(f"the engine refused the fingerprint: {error_text(response.content)}")
        try:
            choices = sorted(response.json()["choices"], key=lambda choice: choice["index"])
            answers = [_first_token(choice["logprobs"]["top_logprobs"][0]) for choice in choices]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise NotServable(f"the engine's answer to the fingerprint is not readable: {error!r}") from None
        if len(answers) != len(contexts):
            raise NotServable(f"the engine answered {len(answers)} of {len(contexts)} contexts")
        return answers

    def stream(self, path: str, body: bytes) -> Any:
        """Post a request and stream the answer: ``async with client.stream(...) as response``."""
        headers = {"Content-Type": "application/json"}
        return self._http.stream("POST", path, content=body, headers=headers)

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            return await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise EngineUnreachable(f"{type(error).__name__}: {error}") from None


def error_text(content: bytes) -> str:
    """Return the message of an OpenAI error body, or the whole text if it is not one."""
    try:
        body = json.loads(content)
        return str(body["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:2000]


def _first_token(top: dict[str, float]) -> Logprobs:
    return {int(token.removeprefix("token_id:")): value for token, value in top.items()}
