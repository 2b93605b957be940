"""Send requests to an endpoint, read its events, and turn error responses into errors with a next step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from nbtoolkit.errors import NotReady, RequestRefused
from nbtoolkit.serving.openai_format import STREAM_END, event_data
from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx

REQUEST_TIMEOUT = 600.0
"""Seconds without a byte until a request fails; the server sends a keep-alive comment every 15 s."""

HELD = (
    "the ingress holds the request until a server is ready; a sleeping app takes minutes to start one, and "
    "it is billed from then on"
)
_TO_START = "a stopped app is started by deploy(), rollback() or scale(); status() shows its state"


class HttpClient:
    """Send requests to one URL with one key; error responses become errors with a next step."""

    def __init__(self, url: str, key: SecretStr) -> None:
        self._url = url
        self._key = key

    def get_public(self, path: str) -> httpx.Response:
        """Get a page without the key, whatever its status; raises :class:`NotReady` if nothing answers."""
        httpx = _httpx()
        try:
            with httpx.Client(**client_options(self._url), timeout=10) as client:
                return client.get(f"{self._url}{path}")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def request_json(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of a response; raises :class:`RequestRefused` or :class:`NotReady`."""
        return self.request(method, path, body).json()

    def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Return a response of status 2xx; raises :class:`RequestRefused` or :class:`NotReady`."""
        httpx = _httpx()
        try:
            with self._client() as client:
                response = client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise request_refused(response)
        return response

    def stream_text(self, path: str, body: dict[str, Any]) -> Iterator[str]:
        """Yield the pieces of a streamed chat completion; closing the iterator ends the request."""
        httpx = _httpx()
        try:
            with self._client() as client, client.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    raise request_refused(response)
                yield from _content(response)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def raise_for_ingress(self, response: httpx.Response) -> None:
        """Raise :class:`NotReady` if the ingress answered in place of the server."""
        if error := parse_ingress_error(response):
            raise NotReady(
                f"{self._url} cannot answer: {error.reason}.",
                next_step=error.next_step,
                reason=error.reason,
                lasting=error.lasting,
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
        reason = HELD if held else str(error) or type(error).__name__
        return NotReady(
            f"{self._url} does not answer ({reason})",
            next_step="see the target's status(); deploy() starts a stopped server",
            reason=reason,
        )


def client_options(url: str) -> dict[str, Any]:
    """Return options of an HTTP client for ``url``; ports of this machine are reached without a proxy."""
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    return {"trust_env": not local, "verify": tls_context()}


def _content(response: httpx.Response) -> Iterator[str]:
    for data in event_data(response.iter_lines()):
        if data == STREAM_END:
            return
        chunk = json.loads(data)
        if error := chunk.get("error"):
            raise RequestRefused(
                f"The stream ended with an error: {error.get('message', error)}",
                next_step="ask again; the target's logs() show the cause",
                status=response.status_code,
                code=error.get("code"),
            )
        for choice in chunk["choices"]:
            if text := choice["delta"].get("content"):
                yield text


def _httpx() -> ModuleType:
    """Import httpx late: a plan or a list of adapters needs no HTTP client."""
    import httpx

    return httpx


class IngressError(NamedTuple):
    """Why an ingress answered in place of a server; ``lasting`` if waiting does not help."""

    reason: str
    next_step: str
    lasting: bool = False


def parse_ingress_error(response: httpx.Response) -> IngressError | None:
    """Return the error of an ingress, None if a server answered."""
    status, text = response.status_code, response.text[:200].strip()
    if text.startswith("{"):
        return None  # the server answers everything as JSON
    if status == 504:
        return IngressError(
            f"no server was ready while the ingress held the request to its limit (504 {text})",
            "wait longer: endpoint.wait(); the target's status() shows the progress of the startup",
        )
    if status == 403 and "access denied" in text.lower():
        return IngressError(
            f"the app's IP rules deny this machine (403 {text})",
            "add this machine's address to allowed_ip_ranges and provision() again",
            lasting=True,
        )
    if status in (403, 404) and "container app" in text.lower():
        reason = f"the app is stopped or does not exist ({status} {text})"
        return IngressError(reason, _TO_START, lasting=True)
    if status in (502, 503):
        return IngressError(f"the ingress answered {status}: {text}", "call endpoint.wait(), then ask again")
    return None


def request_refused(response: httpx.Response) -> RequestRefused:
    """Return the error for an error response."""
    try:
        error = response.json()["error"]
        message, code = error["message"], error.get("code")
    except (ValueError, KeyError, TypeError):  # an ingress or a proxy answered, not the server
        message, code = response.text[:500] or response.reason_phrase, None
    ingress, after = parse_ingress_error(response), response.headers.get("Retry-After")
    request = f"{response.request.method} {response.request.url.path}"
    return RequestRefused(
        f"{request} was answered {response.status_code}: {message}",
        next_step=ingress.next_step if ingress else _next_step(response.status_code, after),
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
