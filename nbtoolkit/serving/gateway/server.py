"""Run the gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import ExitStack
from types import FrameType

import uvicorn

from .app import build_app
from .config import GatewayConfig, GatewayStartRefused
from .replica_state import GatewayState

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn server that finishes running answers on the first signal and stops on the second."""

    def __init__(self, config: uvicorn.Config, settings: GatewayConfig, replica: GatewayState) -> None:
        super().__init__(config)
        self._settings = settings
        self._replica = replica
        self._drain: asyncio.Task[None] | None = None
        self.failed = False

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        self._loop.call_soon_threadsafe(self.begin_shutdown)

    def begin_shutdown(self) -> None:
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
        replica = GatewayState(settings.replica)
        holder: list[_Server] = []
        app = build_app(settings, replica, lambda: holder[0].fail())
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=True,
            forwarded_allow_ips="*",  # only the ingress can reach the container
            server_header=False,
            timeout_graceful_shutdown=2,  # answers are finished by then; open UI sessions are not waited for
            ws="none",
        )
        server = _Server(config, settings, replica)
        holder.append(server)
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
