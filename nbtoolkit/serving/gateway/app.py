"""Build the gateway's application from its parts."""

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
from .replica_state import GatewayState
from .routes import Metrics, build_router
from .supervisor import Supervisor
from .web_ui import WebUi

log = logging.getLogger(__name__)


def build_app(settings: GatewayConfig, replica: GatewayState, on_failure: Callable[[], None]) -> FastAPI:
    """Return the application; ``on_failure`` is called when a background task of the gateway fails."""
    auth, metrics = ApiKeyAuth(settings.key), Metrics()
    supervisor = Supervisor(settings, PublishedReleases(settings.mount), replica)
    proxy = EngineProxy(replica, lambda: supervisor.session.client if supervisor.session else None)
    heartbeat = HeartbeatWriter(settings, replica)
    work = [supervisor.run, heartbeat.run]
    web_ui = WebUi(auth, proxy) if settings.web_ui else None
    if web_ui is not None:
        work.append(web_ui.run)

    def check_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("the gateway cannot continue", exc_info=error)
            on_failure()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        tasks = [asyncio.create_task(run()) for run in work]
        for task in tasks:
            task.add_done_callback(check_end)
        yield
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        replica.enter("stopped")
        await heartbeat.write()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(build_router(settings, auth, proxy, supervisor, metrics))
    if web_ui is not None:
        app.mount("/", web_ui)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:  # pyright: ignore[reportUnusedFunction]
        metrics.count(_metric_path(request), error.status)
        response = error.response()
        if error.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @app.exception_handler(HTTPException)
    async def missing(request: Request, error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        status = 404 if error.status_code == 405 else error.status_code
        message = f"There is no {request.method} {request.url.path} here."
        metrics.count(_metric_path(request), status)
        return ApiError(message, status=status, code="not_found").response()

    return app


def _metric_path(request: Request) -> str:
    """Return the path if it is a known one, else "other": clients must not choose metric labels."""
    path = request.url.path
    return path if path.startswith("/v1/") and path.count("/") <= 3 and len(path) < 24 else "other"
