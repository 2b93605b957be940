"""The Azure double: one proxy on loopback behind which all of Azure's hosts answer."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from types import TracebackType
from typing import Any

from . import tokens
from .arm import HOST
from .clock import Clock
from .faults import Faults
from .http import ClientDisconnected, Handler, Refused, Request, Response
from .resource_manager import ResourceManager
from .server import Server
from .tokens import Tokens

SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"
SECRET_QUERY = ("sig", "t", "c", "s", "h", "token")


@dataclass(frozen=True)
class LoggedRequest:
    """One request that the double received, without secrets."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    status: int
    seconds: float


class AzureDouble:
    """Azure on loopback; `with AzureDouble() as double`, then give clients `double.environ()`.

    Parts: `arm` (resources, deployments), `files` (Azure Files), `apps` (Container Apps), `tokens`, `faults`,
    `clock`. `requests` are the received requests; `crashes` are the double's own errors: a test expects none.
    """

    def __init__(self, root: Path | None = None, scale: float = 0.01) -> None:
        self._own_root = root is None
        self.root = root or Path(tempfile.mkdtemp(prefix="azure-double-"))
        self.clock = Clock(scale)
        self.faults = Faults()
        self.tokens = Tokens()
        self.subscription = SUBSCRIPTION
        self.requests: list[LoggedRequest] = []
        self.crashes: list[str] = []
        self.watchers: list[Callable[[Request, Response], None]] = []
        """Called with every request and its response before the response is sent."""
        self.latency = 0.0
        """Real seconds added to every request."""
        self._closers: list[Callable[[], None]] = []
        self._routes: list[tuple[re.Pattern[str], Handler]] = []
        self._lock = threading.Lock()
        self._server = Server(self._serve)
        self.arm = ResourceManager(self, self.clock)
        self.route(re.escape(HOST), self.arm.handle)
        self.route(re.escape(tokens.HOST), self.tokens.handle)
        self.files: Any = self._part("files")
        self.apps: Any = self._part("container_apps")

    def route(self, host: str, handler: Handler) -> None:
        """Let a handler answer for all hosts that match; a later route goes first."""
        self._routes.insert(0, (re.compile(host, re.IGNORECASE), handler))

    def on_close(self, close: Callable[[], None]) -> None:
        """Call this when the double ends: processes, threads."""
        self._closers.append(close)

    def environ(self) -> dict[str, str]:
        """The environment that leads clients here: proxy, trust, and a service principal."""
        proxy = f"http://127.0.0.1:{self._server.port}"
        ca = str(self.root / "ca.pem")
        return {
            "HTTPS_PROXY": proxy,
            "https_proxy": proxy,
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "REQUESTS_CA_BUNDLE": ca,
            "SSL_CERT_FILE": ca,
            "CURL_CA_BUNDLE": ca,
            "AZURE_TENANT_ID": tokens.TENANT,
            "AZURE_CLIENT_ID": tokens.CLIENT_ID,
            "AZURE_CLIENT_SECRET": self.tokens.client_secret,
        }

    def __enter__(self) -> AzureDouble:
        (self.root / "ca.pem").write_bytes(self._server.authority_pem)
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clock.stop()
        for close in reversed(self._closers):
            close()
        self._server.stop()
        if self._own_root:
            shutil.rmtree(self.root, ignore_errors=True)

    def _part(self, module: str) -> Any:
        """A part of the double by its module's `install(double)`; None while the module is not there."""
        name = f"{__package__}.{module}"
        return import_module(name).install(self) if util.find_spec(name) else None

    def _serve(self, request: Request, send: Callable[[Response], None]) -> None:
        started = time.monotonic()
        status = 0
        try:
            if self.latency:
                time.sleep(self.latency)
            fault = self.faults.find(request)
            response = fault(request, self._answer, self.clock) if fault else self._answer(request)
            for watch in self.watchers:
                watch(request, response)
            status = 0 if response.reset else response.status
        finally:
            self._log_request(request, status, time.monotonic() - started)
        send(response)

    def _answer(self, request: Request) -> Response:
        try:
            for host, handler in self._routes:
                if host.fullmatch(request.host):
                    return handler(request)
            return Response(
                502, {"content-type": "text/plain"}, f"{request.host} is nowhere in this Azure.".encode()
            )
        except Refused as refused:
            return refused.response
        except (ClientDisconnected, OSError):
            raise
        except Exception:  # noqa: BLE001 - reported to the test, which fails
            self.crashes.append(traceback.format_exc())
            return Response.error(500, "InternalServerError", "The double crashed; see double.crashes.")

    def _log_request(self, request: Request, status: int, seconds: float) -> None:
        query = {name: "***" if name in SECRET_QUERY else value for name, value in request.query.items()}
        with self._lock:
            self.requests.append(
                LoggedRequest(request.method, request.host, request.path, query, status, seconds)
            )
