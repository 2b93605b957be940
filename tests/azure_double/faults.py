"""Faults on demand: at the nth matching request, once or several times."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from .clock import Clock
from .http import ClientDisconnected, Handler, Request, Response


@dataclass(frozen=True)
class Throttled:
    """429 with Retry-After (Azure seconds, rounded to real ones); on a storage host 503 ServerBusy."""

    retry_after: float = 5

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        request.body.drain()
        headers = {"retry-after": clock.retry_after(self.retry_after)}
        if is_storage(request.host):
            return refusal(request, 503, "ServerBusy", "The server is busy.", headers)
        return refusal(request, 429, "TooManyRequests", "The request is being throttled.", headers)


@dataclass(frozen=True)
class Broken:
    """A 5xx status; the request is not carried out."""

    status: int = 500
    code: str = "InternalServerError"

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        request.body.drain()
        return refusal(
            request, self.status, self.code, "Encountered internal server error. Please try again later."
        )


@dataclass(frozen=True)
class Refusing:
    """A refusal, such as a 409 ContainerAppLockConflict."""

    status: int
    code: str
    message: str = "The operation is refused."

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        request.body.drain()
        return refusal(request, self.status, self.code, self.message)


def lock_conflict() -> Refusing:
    """Return the 409 of a container app that another operation changes."""
    return Refusing(
        409,
        "ContainerAppLockConflict",
        "Cannot modify a container app because another operation is in progress. Please try again later.",
    )


@dataclass(frozen=True)
class Reset:
    """Reset the connection before handling, in the request's body, in the response, or before it."""

    when: Literal["before", "upload", "answer", "lost"] = "before"

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        if self.when == "before":
            return Response(reset=True)
        if self.when == "upload":
            request.body.read(int(request.headers.get("content-length") or 2) // 2)
            return Response(reset=True)
        answer = serve(request)
        return Response(reset=True) if self.when == "lost" else _halved(answer)


@dataclass(frozen=True)
class Slow:
    """Delay the response by Azure seconds."""

    seconds: float

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        clock.sleep(self.seconds)
        return serve(request)


@dataclass(frozen=True)
class ExpiredToken:
    """401: the access token has expired; for a share and a key 403."""

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        request.body.drain()
        if is_storage(request.host) and not request.headers.get("authorization", "").startswith("Bearer"):
            return refusal(request, 403, "AuthenticationFailed", "Server failed to authenticate the request.")
        return refusal(
            request,
            401,
            "InvalidAuthenticationInfo" if is_storage(request.host) else "ExpiredAuthenticationToken",
            "The access token expiry UTC time is earlier than current UTC time.",
            {
                "www-authenticate": 'Bearer authorization_uri="https://login.windows.net/", '
                'error="invalid_token", '
                'error_description="The access token has expired."'
            },
        )


Fault = Callable[[Request, Handler, Clock], Response]


@dataclass
class PlannedFault:
    """A fault and the requests that it hits."""

    fault: Fault
    method: re.Pattern[str]
    where: re.Pattern[str]
    nth: int
    times: int
    when: Callable[[Request], bool]
    seen: int = 0
    hits: int = field(default=0)
    """Number of requests hit; a test asserts it."""


class Faults:
    """The planned faults; the first that matches a request hits it."""

    def __init__(self) -> None:
        self._planned: list[PlannedFault] = []
        self._lock = threading.Lock()

    def on(
        self,
        method: str,
        where: str,
        fault: Fault,
        *,
        nth: int = 1,
        times: int = 1,
        when: Callable[[Request], bool] = lambda _: True,
    ) -> PlannedFault:
        """Hit `times` requests from the nth on whose host and path match `where`.

        `when` selects by what is not in the path, such as the query.
        """
        planned = PlannedFault(fault, re.compile(method), re.compile(where, re.IGNORECASE), nth, times, when)
        with self._lock:
            self._planned.append(planned)
        return planned

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._planned.clear()

    def find(self, request: Request) -> Fault | None:
        """Count a request; return the fault that hits it, if any."""
        with self._lock:
            for planned in self._planned:
                place = request.host + request.decoded_path
                if (
                    planned.method.fullmatch(request.method)
                    and planned.where.search(place)
                    and planned.when(request)
                ):
                    planned.seen += 1
                    if planned.nth <= planned.seen and planned.hits < planned.times:
                        planned.hits += 1
                        return planned.fault
        return None


def is_storage(host: str) -> bool:
    """Return whether a host is a data plane with XML bodies."""
    return host.endswith(".core.windows.net")


def refusal(
    request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error response in the format of the request's host."""
    if request.host.endswith(".azurecontainerapps.io"):
        return Response(status, {"content-type": "text/plain", **(headers or {})}, message.encode())
    if not is_storage(request.host):
        return Response.error(status, code, message, headers)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    text = '\ufeff<?xml version="1.0" encoding="utf-8"?>' + error
    return Response(
        status,
        {"content-type": "application/xml", "x-ms-error-code": code, **(headers or {})},
        b"" if request.method == "HEAD" else text.encode(),
    )


def _halved(answer: Response) -> Response:
    answer.reset = True
    return answer


__all__ = [
    "Broken",
    "ClientDisconnected",
    "ExpiredToken",
    "Faults",
    "PlannedFault",
    "Refusing",
    "Reset",
    "Slow",
    "Throttled",
    "lock_conflict",
    "refusal",
]
