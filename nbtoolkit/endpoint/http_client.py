"""How requests travel to an endpoint, and what its refusals mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from nbtoolkit.endpoint import ingress_errors
from nbtoolkit.errors import NotReady, RequestRefused
from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT = 600.0
"""Seconds without a byte before a request is given up; the server sends a sign of life every 15 s."""


class HttpClient:
    """Send requests to one address with one key; refusals become errors with a next step."""

    def __init__(self, url: str, key: SecretStr) -> None:
        self._url = url
        self._key = key

    def get_open(self, path: str) -> httpx.Response:
        """Get a page that needs no key, whatever its status; raises :class:`NotReady` if nothing answers."""
        httpx = _httpx()
        try:
            with httpx.Client(**client_options(self._url), timeout=10) as client:
                return client.get(f"{self._url}{path}")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of an answer; raises :class:`RequestRefused` or :class:`NotReady`."""
        httpx = _httpx()
        try:
            with self._client() as client:
                response = client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        return response.json()

    def stream_text(self, path: str, body: dict[str, Any]) -> Iterator[str]:
        """Yield the pieces of a streamed chat answer; closing the iterator ends the request."""
        httpx = _httpx()
        try:
            with self._client() as client, client.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                yield from _pieces(response)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def check_gateway(self, response: httpx.Response) -> None:
        """Raise :class:`NotReady` where what stands before the server answered in its place."""
        if said := ingress_errors.parse_ingress_error(response):
            raise NotReady(
                f"{self._url} cannot answer: {said.reason}.",
                next_step=said.next_step,
                reason=said.reason,
                lasting=said.lasting,
            )

    def _client(self) -> httpx.Client:
        httpx = _httpx()
        return httpx.Client(
            **client_options(self._url),
            base_url=self._url,
            headers={"Authorization": f"Bearer {self._key.get_secret_value()}"},
            timeout=httpx.Timeout(REQUEST_TIMEOUT, connect=10),
        )

    def _unreachable(self, error: Exception) -> NotReady:
        held = isinstance(error, _httpx().ReadTimeout)
        reason = ingress_errors.HELD if held else str(error) or type(error).__name__
        return NotReady(
            f"{self._url} does not answer ({reason})",
            next_step="see the target's status(); a stopped server is started by deploy()",
            reason=reason,
        )


def client_options(url: str) -> dict[str, Any]:
    """Return how an HTTP client for ``url`` is made: no proxy stands before this machine's own ports."""
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return {"trust_env": not local, "verify": tls_context()}


def _pieces(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue  # a comment keeps an idle connection open
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        chunk = json.loads(data)
        if error := chunk.get("error"):
            raise RequestRefused(
                f"The answer broke off: {error.get('message', error)}",
                next_step="ask again; the target's logs() tell more",
                status=response.status_code,
                code=error.get("code"),
            )
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text


def _refused(response: httpx.Response) -> RequestRefused:
    try:
        found = response.json()
        error = found["error"]
        message, code = error["message"], error.get("code")
    except (ValueError, KeyError, TypeError):  # an ingress or a proxy answered, not the server
        message, code = response.text[:500] or response.reason_phrase, None
    said, after = ingress_errors.parse_ingress_error(response), response.headers.get("Retry-After")
    request = f"{response.request.method} {response.request.url.path}"
    return RequestRefused(
        f"{request} was answered {response.status_code}: {message}",
        next_step=said.next_step if said else _next_step(response.status_code, after),
        status=response.status_code,
        code=code,
        retry_after=float(after) if after and after.isdigit() else None,
    )


def _next_step(status: int, after: str | None) -> str:
    steps = {
        401: "use the key of this endpoint's target: target.endpoint() has it",
        403: "use the key of this endpoint's target: target.endpoint() has it",
        404: "see endpoint.models() for the names that are served",
        429: f"too many requests are waiting; ask again in {after or 'a few'} s",
        503: f"call endpoint.wait(), or ask again in {after or 'a few'} s",
    }
    if status in steps:
        return steps[status]
    if status < 500:
        return "correct the request as the message says"
    return "see the target's logs() for the cause, then ask again"


def _httpx() -> ModuleType:
    """Import late: a plan or a listing of adapters needs no HTTP client."""
    import httpx

    return httpx
