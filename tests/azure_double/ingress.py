"""The ingress: forwards requests to a ready replica, and holds them while there is none."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import itertools
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .hosted_app import HostedApp
from .http import ClientDisconnected, Request, Response
from .replicas import Replica
from .revisions import Revision

if TYPE_CHECKING:
    from .app_platform import Platform

COOKIE = "acasticky"
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
TIMED_OUT = b"stream timeout"
NO_UPSTREAM = b"upstream connect error or disconnect/reset before headers. reset reason: connection failure"


class Ingress:
    """All apps' host names, and those of their revisions."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._turn = itertools.count()
        self._lock = threading.Lock()

    def handle(self, request: Request) -> Response:
        found = self._find(request.host)
        if found is None:
            return error_page(404, "This Container App is stopped or does not exist.")
        app, revision = found
        self.platform.count_request(app.name)
        ingress = app.ingress
        if ingress is None or not ingress["external"]:
            return error_page(404, "This Container App is stopped or does not exist.")
        if not allowed(ingress.get("ipSecurityRestrictions") or [], self.platform.client_ip):
            return Response(403, {"content-type": "text/plain"}, b"RBAC: access denied")
        if app.stopped or app.latest is None:
            return error_page(403, "This Container App is stopped.")
        with self.platform.lock:
            app.pending += 1
        leave = Once(lambda: self._request_ended(app))
        try:
            replica = self._replica(app, revision, request)
            if replica is None:
                request.body.drain()
                return self._ended(leave, Response(504, {"content-type": "text/plain"}, TIMED_OUT))
            return self._forward(app, replica, request, leave)
        except BaseException:
            leave()
            raise

    def _find(self, host: str) -> tuple[HostedApp, Revision | None] | None:
        name, _, domain = host.lower().partition(".")
        for app in self.platform.apps():
            if app.deleted or app.domain != domain:
                continue
            if app.name == name:
                return app, None
            for revision in app.revisions:
                if revision.name == name and revision.active:
                    return app, revision
        return None

    def _request_ended(self, app: HostedApp) -> None:
        with self.platform.lock:
            app.pending -= 1
            app.last_active = time.monotonic()

    @staticmethod
    def _ended(leave: Once, response: Response) -> Response:
        leave()
        return response

    def _replica(self, app: HostedApp, revision: Revision | None, request: Request) -> Replica | None:
        """Return a ready replica; waits up to the ingress's limit. A pending request wakes the app."""
        limits, clock = self.platform.limits, self.platform.double.clock
        end = time.monotonic() + max(clock.real(limits.hold_seconds), limits.hold)
        while True:
            serving = revision or app.serving
            ready = serving.ready() if serving else []
            if ready:
                return self._sticky(app, ready, request) or ready[next(self._turn) % len(ready)]
            if time.monotonic() > end or app.deleted or app.stopped or self.platform.double.clock.stopped:
                return None
            time.sleep(0.01)

    def _sticky(self, app: HostedApp, ready: list[Replica], request: Request) -> Replica | None:
        if not is_sticky(app):
            return None
        for part in request.headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            for replica in ready:
                if name == COOKIE and cookie_value(replica) == value:
                    return replica
        return None

    def _forward(self, app: HostedApp, replica: Replica, request: Request, leave: Once) -> Response:
        limits = self.platform.limits
        idle = max(self.platform.double.clock.real(limits.idle_seconds), limits.idle)
        connection = http.client.HTTPConnection("127.0.0.1", replica.port or 9, timeout=idle)
        target = request.path + (f"?{urlencode(request.query)}" if request.query else "")
        try:
            connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in forwarded(request, self.platform.client_ip).items():
                connection.putheader(name, value)
            connection.endheaders()
            chunked = "chunked" in request.headers.get("transfer-encoding", "")
            while piece := request.body.read(1 << 16):
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
        except TimeoutError:
            connection.close()
            return self._ended(leave, Response(504, {"content-type": "text/plain"}, TIMED_OUT))
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if isinstance(error, ClientDisconnected):
                raise
            with contextlib.suppress(ClientDisconnected):
                request.body.drain()
            return self._ended(leave, Response(503, {"content-type": "text/plain"}, NO_UPSTREAM))
        headers = {
            name.lower(): value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP
        }
        cookies = answer.msg.get_all("set-cookie", [])
        if is_sticky(app):
            cookies.append(f"{COOKIE}={cookie_value(replica)}; path=/; secure; httponly")
        if cookies:  # several headers of one name, in a mapping that holds each name once
            headers["set-cookie"] = "\r\nset-cookie: ".join(cookies)
        if request.method == "HEAD" or answer.status in (204, 304):
            connection.close()
            return self._ended(leave, Response(answer.status, headers))
        return Response(answer.status, headers, ProxiedBody(answer, connection, leave))


class Once:
    """Call a function at most once."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            call, self._call = self._call, None
        if call:
            call()


class ProxiedBody:
    """A streamed response; if the replica dies, the client's stream is interrupted, too."""

    def __init__(
        self, answer: http.client.HTTPResponse, connection: http.client.HTTPConnection, leave: Once
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._leave = leave

    def __iter__(self) -> Iterator[bytes]:
        try:
            while piece := self._answer.read1(1 << 16):
                yield piece
            if self._answer.length:
                raise ClientDisconnected("the replica's answer ended early")
        except (OSError, http.client.HTTPException) as error:
            raise ClientDisconnected("the replica went away") from error
        finally:
            self._answer.close()
            self._connection.close()
            self._leave()

    def __del__(self) -> None:  # a client that left before the first byte
        self._connection.close()
        self._leave()


def cookie_value(replica: Replica) -> str:
    """Return the value of the sticky cookie for a replica."""
    return hashlib.sha256(replica.name.encode()).hexdigest()[:16]


def forwarded(request: Request, client_ip: str) -> dict[str, str]:
    """Return the headers of the forwarded request."""
    kept = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
    if "chunked" in request.headers.get("transfer-encoding", ""):
        kept["transfer-encoding"] = "chunked"
    kept.pop("expect", None)
    kept.setdefault("host", request.host)
    kept["x-forwarded-for"] = client_ip
    kept["x-forwarded-proto"] = "https"
    kept["x-request-id"] = str(uuid.uuid4())
    return kept


def is_sticky(app: HostedApp) -> bool:
    """Whether the ingress binds a client to its replica."""
    return (((app.ingress or {}).get("stickySessions") or {}).get("affinity")) == "sticky"


def allowed(rules: list[Mapping[str, Any]], address: str) -> bool:
    """Return whether IP restrictions allow an address; all rules allow, or all deny."""
    if not rules:
        return True
    inside = any(
        ipaddress.ip_address(address) in ipaddress.ip_network(rule["ipAddressRange"], strict=False)
        for rule in rules
    )
    return inside if rules[0]["action"].lower() == "allow" else not inside


def error_page(status: int, text: str) -> Response:
    """The platform's own page."""
    title = f"Error {status} - {text}"
    head = "<head><title>Azure Container App - Unavailable</title></head>"
    html = f"<!DOCTYPE html><html>{head}<body><h1>{title}</h1></body></html>"
    return Response(status, {"content-type": "text/html"}, html.encode())
