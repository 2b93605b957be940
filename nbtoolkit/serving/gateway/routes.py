"""The paths that programs use: probes without a key, /v1 and /metrics with it."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .auth import Keys
from .config import FrontSettings
from .engine_client import EngineUnreachable
from .engine_proxy import Gateway
from .errors import Refused
from .metrics import Metrics
from .streaming_response import Relay
from .supervisor import Supervisor

BODY_LIMIT = 16 << 20
"""Bytes of a request; a prompt of a million tokens is well below."""


def build_router(
    settings: FrontSettings, keys: Keys, gateway: Gateway, supervisor: Supervisor, metrics: Metrics
) -> APIRouter:
    """Return the routes of one front."""
    router = APIRouter()
    replica = gateway.replica

    def admit(request: Request) -> None:
        if not keys.accept_header(request.headers.get("authorization")):
            message = "No valid API key: send it as 'Authorization: Bearer <key>'."
            raise Refused(401, message, "invalid_api_key")

    async def generate(request: Request) -> Response:
        admit(request)
        body = await _json_object(request)
        path = request.url.path
        stream = body.get("stream") is True
        relay = Relay(
            gateway.answer(path, body),
            stream=stream,
            keepalive=settings.keepalive,
            tally=partial(metrics.count, path),
        )
        return cast(Response, relay)  # an ASGI application, which is all that a route needs

    @router.get("/health")
    async def health() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse(replica.health())

    @router.get("/ready")
    async def ready() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        if replica.phase == "ready":
            reason = "this replica serves"
        elif replica.phase in ("draining", "stopped"):
            reason = ""
        elif not replica.others_ready:
            reason = "no other replica serves yet"
        elif replica.uptime > settings.ready_after:
            reason = "waited long enough"
        else:
            reason = ""
        body = {"ready": bool(reason), "phase": replica.phase, "reason": reason or "another replica serves"}
        return JSONResponse(body, 200 if reason else 503)

    @router.get("/v1/models")
    async def models(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        admit(request)
        replica.refuse_unless_ready()
        base = next(name for name, model in replica.routes.items() if model.is_base)
        created = int(replica.ready_at)
        data = [
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "nbtoolkit",
                "root": name if model.is_base else model.engine_name,
                "parent": None if model.is_base else base,
                "sha256": model.sha256,
            }
            for name, model in replica.routes.items()
        ]
        return JSONResponse({"object": "list", "data": data})

    # Starlette's own route: a FastAPI route would try to serialise the relay.
    router.add_route("/v1/chat/completions", generate, methods=["POST"])
    router.add_route("/v1/completions", generate, methods=["POST"])

    @router.get("/metrics")
    async def metrics_text(request: Request) -> PlainTextResponse:  # pyright: ignore[reportUnusedFunction]
        admit(request)
        text = metrics.text(replica)
        if (run := supervisor.run_now) is not None:
            try:
                text += await run.client.metrics()
            except EngineUnreachable:
                text += "# the engine does not answer\n"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return router


async def _json_object(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > BODY_LIMIT:
            raise Refused(413, f"The request is over {BODY_LIMIT >> 20} MiB.", "request_too_large")
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The request is not JSON: {error}", "invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(400, "The request must be a JSON object.", "invalid_json")
    return cast(dict[str, Any], body)
