"""Forward requests to the engine, translating public model names to the engine's and back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from ..openai_format import ApiError
from .engine_process import EngineClient
from .replica_state import EngineModel, GatewayState

_MARK = rb'"system_fingerprint":\s*(?:null|"[^"]*")'
_FINGERPRINT = re.compile(rb",\s*" + _MARK + rb"|" + _MARK + rb"\s*,\s*")


class EngineLost(Exception):
    """The engine ended during an answer."""


class ProxiedResponse:
    """A running answer of the engine, with the public name in ``model`` and in ``system_fingerprint``.

    The names are rewritten without parsing. In JSON, a quote inside a string is escaped, so
    ``"model":"a_..."`` with plain quotes cannot be generated text: replacing these bytes is exact, and takes
    about a microsecond per event.
    """

    def __init__(self, response: httpx.Response, model: EngineModel, public_name: str) -> None:
        self.status = response.status_code
        self.retry_after: str | None = response.headers.get("retry-after")
        self._response = response
        self._engine_name = model.engine_name.encode()
        self._public_name = json.dumps(public_name)
        self._model = re.compile(rb'"model":\s*' + re.escape(json.dumps(model.engine_name)).encode())
        mark = json.dumps(model.system_fingerprint)
        self._replacement = f'"model":{self._public_name},"system_fingerprint":{mark}'.encode()

    async def read(self) -> bytes:
        """Return the whole body; raise EngineLost."""
        try:
            content = await self._response.aread()
        except httpx.HTTPError as error:
            raise EngineLost(str(error)) from None
        if self.status == 200:
            return self._renamed(content)
        # The message of an error may contain the engine's model name.
        return content.replace(self._engine_name, self._public_name[1:-1].encode())

    async def events(self) -> AsyncIterator[bytes]:
        """Yield blocks of whole SSE events as they arrive; raise EngineLost."""
        pending = b""
        try:
            async for block in self._response.aiter_raw():
                end = block.rfind(b"\n\n")
                if end < 0:
                    pending += block
                    if pending.endswith(b"\n\n"):
                        yield self._renamed_events(pending)
                        pending = b""
                    continue
                whole, pending = pending + block[: end + 2], block[end + 2 :]
                yield self._renamed_events(whole)
        except httpx.HTTPError as error:
            raise EngineLost(str(error)) from None
        if pending:
            raise EngineLost("the stream ended inside an event")

    def _renamed(self, content: bytes) -> bytes:
        """Rewrite one JSON body, or one SSE event that contains one."""
        if b'"system_fingerprint"' in content:
            content = _FINGERPRINT.sub(b"", content, count=1)
        return self._model.sub(lambda _: self._replacement, content, count=1)

    def _renamed_events(self, block: bytes) -> bytes:
        """Rewrite a block of whole SSE events."""
        return b"\n\ndata: ".join(map(self._renamed, block.split(b"\n\ndata: ")))


class EngineProxy:
    """Forwards requests of the API and of the chat UI to the engine."""

    def __init__(self, replica: GatewayState, client: Callable[[], EngineClient | None]) -> None:
        self.replica = replica
        self._client = client

    @asynccontextmanager
    async def request(self, path: str, body: dict[str, Any]) -> AsyncGenerator[ProxiedResponse]:
        """Forward a request and yield its answer; leaving the context early cancels it in the engine.

        Raises :class:`ApiError` if the request cannot be served, and EngineLost if the engine ends.
        """
        with self.replica.lease(body.get("model")) as model:
            client = self._client()
            if client is None:
                raise EngineLost("no engine")
            content = json.dumps({**body, "model": model.engine_name}).encode()
            try:
                async with client.stream(path, content) as response:
                    yield ProxiedResponse(response, model, body["model"])
            except httpx.HTTPError as error:
                raise EngineLost(str(error)) from None


def engine_lost_error() -> ApiError:
    """Return the error for an answer that was interrupted because the engine ended."""
    message = "The engine ended during this answer and is being restarted; send the request again."
    return ApiError(message, status=503, code="engine_restarting", kind="server_error", retry_after=5)
