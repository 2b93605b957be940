"""Put one front together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..openai_errors import ApiError
from .auth import ApiKeyAuth
from .config import GatewayConfig
from .engine_proxy import EngineProxy
from .heartbeat import HeartbeatWriter
from .published_releases import PublishedReleases
from .replica_state import ReplicaState
from .routes import Metrics, build_router
from .supervisor import Supervisor
from .web_ui import WebUi

log = logging.getLogger(__name__)


def build_app(settings: GatewayConfig, replica: ReplicaState, broken: Callable[[], None]) -> FastAPI:
    """Return the application; ``broken`` is called when the front itself can go on no more."""
    keys, metrics = ApiKeyAuth(settings.key), Metrics()
    supervisor = Supervisor(settings, PublishedReleases(settings.mount), replica)
    gateway = EngineProxy(replica, lambda: supervisor.session.client if supervisor.session else None)
    heart = HeartbeatWriter(settings, replica)
    work = [supervisor.run, heart.run]
    door = WebUi(keys, gateway) if settings.web_ui else None
    if door is not None:
        work.append(door.run)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the front cannot go on", exc_info=error)
            broken()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(run()) for run in work]
        for task in tasks:
            task.add_done_callback(ended)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        replica.enter("stopped")
        await heart.write()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(build_router(settings, keys, gateway, supervisor, metrics))
    if door is not None:
        app.mount("/", door)

    @app.exception_handler(ApiError)
    async def refused(request: Request, refusal: ApiError) -> Response:  # pyright: ignore[reportUnusedFunction]
        metrics.count(_known(request), refusal.status)
        response = refusal.response()
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        status = 404 if error.status_code == 405 else error.status_code
        message = f"There is no {request.method} {request.url.path} here."
        metrics.count(_known(request), status)
        return ApiError(message, status=status, code="not_found").response()

    return app


def _known(request: Request) -> str:
    """Return the path where it is one of ours: clients must not choose the names of our counters."""
    path = request.url.path
    return path if path.startswith("/v1/") and path.count("/") <= 3 and len(path) < 24 else "other"
