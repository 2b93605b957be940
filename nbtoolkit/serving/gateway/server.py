"""Build the gateway's application and run it until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ..openai_format import ApiError
from .auth import ApiKeyAuth
from .config import GatewayConfig, GatewayStartRefused
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


class _Server(uvicorn.Server):
    """uvicorn server that finishes running answers on the first signal and stops on the second."""

    def __init__(self, settings: GatewayConfig) -> None:
        self._settings = settings
        self._replica = GatewayState(settings.replica)
        self._drain: asyncio.Task[None] | None = None
        self.failed = False
        config = uvicorn.Config(
            build_app(settings, self._replica, self.fail),
            log_config=None,
            access_log=False,
            proxy_headers=True,
            forwarded_allow_ips="*",  # only the ingress can reach the container
            server_header=False,
            timeout_graceful_shutdown=2,  # answers are finished by then; open UI sessions are not waited for
            ws="none",
        )
        super().__init__(config)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self._loop.call_soon_threadsafe(self._begin_shutdown)

    def _begin_shutdown(self) -> None:
        if self._drain is None:
            self._drain = self._loop.create_task(self._finish_answers())
        else:
            self.should_exit = True

    def fail(self) -> None:
        self.failed = True
        self.should_exit = True

    async def _finish_answers(self) -> None:
        self._replica.accepts_while_draining = self._replica.phase == "ready"
        self._replica.enter("draining")
        if self._replica.accepts_while_draining:
            await asyncio.sleep(self._settings.linger)
            self._replica.accepts_while_draining = False
        log.info("stopping: %d answers are running", self._replica.in_flight)
        try:
            await asyncio.wait_for(self._replica.wait_idle(), self._settings.drain_timeout)
        except TimeoutError:
            log.warning(
                "%d answers are cut off after %.0f s", self._replica.in_flight, self._settings.drain_timeout
            )
        self.should_exit = True


def serve(settings: GatewayConfig) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises GatewayStartRefused if a port is taken."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    ports = {settings.port: None, settings.probe_port or settings.port: None}  # distinct, in this order
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listen(settings.host, port)) for port in ports]
        server = _Server(settings)
        log.info("listening on %s:%d for %s", settings.host, settings.port, settings.mount)
        asyncio.run(server.serve(listeners))
    return 1 if server.failed else 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise GatewayStartRefused(
            f"Cannot listen on {host}:{port}: {error.strerror}; choose another --port."
        ) from None
    return listener
