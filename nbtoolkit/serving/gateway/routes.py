"""HTTP routes of the API: probes without a key, /v1 and /metrics with it; the request counters."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any, cast

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ..openai_format import ApiError
from .auth import ApiKeyAuth
from .config import GatewayConfig
from .engine_process import EngineUnreachable
from .engine_proxy import EngineProxy
from .replica_state import GatewayState
from .streaming_response import ProxyResponse
from .supervisor import Supervisor

BODY_LIMIT = 16 << 20
"""Maximum size of a request in bytes; a prompt of a million tokens is far smaller."""


class Metrics:
    """Counters of the gateway's requests, in Prometheus' text format."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()

    def count(self, path: str, status: int) -> None:
        """Count one answered request."""
        self._requests[path, status] += 1

    def text(self, replica: GatewayState) -> str:
        """Return the gateway's metrics; no label contains a name chosen by a client."""
        counts = sorted(self._requests.items())
        lines = ["# TYPE nbtoolkit_requests_total counter"]
        lines += [
            f'nbtoolkit_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in counts
        ]
        for name, kind, value in (
            ("requests_in_flight", "gauge", replica.in_flight),
            ("engine_starts_total", "counter", replica.engine_starts),
            ("releases_served_total", "counter", replica.releases_served),
            ("ready", "gauge", int(replica.phase == "ready")),
            ("uptime_seconds", "gauge", f"{replica.uptime:.3f}"),
        ):
            lines += [f"# TYPE nbtoolkit_{name} {kind}", f"nbtoolkit_{name} {value}"]
        return "\n".join(lines) + "\n"


def build_router(
    settings: GatewayConfig, auth: ApiKeyAuth, proxy: EngineProxy, supervisor: Supervisor, metrics: Metrics
) -> APIRouter:
    """Return the routes of one gateway."""
    router = APIRouter()
    replica = proxy.replica

    def authenticate(request: Request) -> None:
        if not auth.accept_header(request.headers.get("authorization")):
            message = "No valid API key: send it as 'Authorization: Bearer <key>'."
            raise ApiError(message, status=401, code="invalid_api_key")

    async def generate(request: Request) -> Response:
        authenticate(request)
        body = await _json_object(request)
        path = request.url.path
        stream = body.get("stream") is True
        response = ProxyResponse(
            proxy.request(path, body),
            replica=replica.name,
            stream=stream,
            keepalive=settings.keepalive_interval,
            on_status=partial(metrics.count, path),
        )
        return cast(Response, response)  # an ASGI application, which is all that a route needs

    @router.get("/health")
    async def health() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return JSONResponse(replica.health())

    @router.get("/ready")
    async def ready() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        reason = ""
        if replica.phase == "ready":
            reason = "this replica serves"
        elif replica.phase not in ("draining", "stopped"):
            if not replica.others_ready:
                reason = "no other replica serves yet"
            elif replica.uptime > settings.ready_after:
                reason = "waited long enough"
        body = {"ready": bool(reason), "phase": replica.phase, "reason": reason or "another replica serves"}
        return JSONResponse(body, 200 if reason else 503)

    @router.get("/v1/models")
    async def models(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        authenticate(request)
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

    # Starlette's route: a FastAPI route would try to serialise the response.
    router.add_route("/v1/chat/completions", generate, methods=["POST"])
    router.add_route("/v1/completions", generate, methods=["POST"])

    @router.get("/metrics")
    async def metrics_text(request: Request) -> PlainTextResponse:  # pyright: ignore[reportUnusedFunction]
        authenticate(request)
        text = metrics.text(replica)
        if (session := supervisor.session) is not None:
            try:
                text += await session.client.metrics()
            except EngineUnreachable:
                text += "# the engine does not respond\n"
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    return router


async def _json_object(request: Request) -> dict[str, Any]:
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > BODY_LIMIT:
            raise ApiError(
                f"The request is over {BODY_LIMIT >> 20} MiB.", status=413, code="request_too_large"
            )
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"The request is not JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError("The request must be a JSON object.", code="invalid_json")
    return cast(dict[str, Any], body)
