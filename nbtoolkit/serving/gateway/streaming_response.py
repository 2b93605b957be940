"""Pass the engine's answer through to the client, with SSE comments while there are no events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.types import Receive, Scope, Send

from ..openai_format import REPLICA_HEADER, ApiError
from .engine_proxy import EngineLost, ProxiedResponse, engine_lost_error

DONE = b"data: [DONE]\n\n"


class ProxyResponse:
    """An ASGI response that cancels the request when the client disconnects.

    The status line is sent after the engine's, so that an invalid request gets its own status. A stream that
    has waited for ``keepalive`` seconds starts earlier with status 200, and then carries errors as events.
    The header ``x-nbtoolkit-replica`` names the replica that answers.
    """

    def __init__(
        self,
        answer: AbstractAsyncContextManager[ProxiedResponse],
        *,
        replica: str,
        stream: bool,
        keepalive: float,
        on_status: Callable[[int], None],
    ) -> None:
        self._answer = answer
        self._replica = replica.encode()
        self._stream = stream
        self._keepalive = keepalive
        self._on_status = on_status
        self._begun = False
        self._last = 0.0
        self._send: Send

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        self._send = send
        self._last = asyncio.get_running_loop().time()
        work = [asyncio.create_task(self._forward()), asyncio.create_task(_disconnected(receive))]
        if self._stream:
            work.append(asyncio.create_task(self._comment()))
        try:
            done, _running = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        for task in done:
            task.result()

    async def _forward(self) -> None:
        try:
            async with self._answer as answer:
                if self._stream and answer.status == 200:
                    await self._begin(200, b"text/event-stream; charset=utf-8")
                    async for block in answer.events():
                        await self._write(block)
                    await self._write(b"", more=False)
                else:
                    await self._send_whole(answer.status, await answer.read(), retry_after=answer.retry_after)
        except ApiError as error:
            await self._send_error(error)
        except EngineLost:
            await self._send_error(engine_lost_error())

    async def _send_error(self, error: ApiError) -> None:
        if self._begun:
            await self._write(error.event, more=False)
        else:
            response = error.response()
            await self._send_whole(error.status, bytes(response.body), error.headers.get("Retry-After"))

    async def _send_whole(self, status: int, body: bytes, retry_after: str | None) -> None:
        if self._begun:  # comments were sent already, and with them the status line
            await self._write(b"data: " + body.replace(b"\n", b" ") + b"\n\n", more=False)
            return
        await self._begin(status, b"application/json", len(body), retry_after)
        await self._write(body, more=False)

    async def _begin(
        self, status: int, media_type: bytes, length: int | None = None, retry_after: str | None = None
    ) -> None:
        if self._begun:
            return
        self._begun = True
        self._on_status(status)
        headers = [
            (b"content-type", media_type),
            (b"cache-control", b"no-store"),
            (REPLICA_HEADER.encode(), self._replica),
        ]
        if length is None:
            headers.append((b"x-accel-buffering", b"no"))  # a proxy must not buffer events
        else:
            headers.append((b"content-length", str(length).encode()))
        if retry_after is not None:
            headers.append((b"retry-after", retry_after.encode()))
        start: MutableMapping[str, Any] = {
            "type": "http.response.start",
            "status": status,
            "headers": headers,
        }
        await self._send(start)

    async def _write(self, body: bytes, more: bool = True) -> None:
        self._last = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _comment(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = self._last + self._keepalive
            if clock() < due:
                await asyncio.sleep(due - clock())
                continue
            await self._begin(200, b"text/event-stream; charset=utf-8")
            await self._write(b": waiting\n\n")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
