"""Open Azure's log streams with a token that is renewed, and yield their records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nbtoolkit.azure.logs.records import LogRecord, RecordParser
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.utils.threads import start_daemon

if TYPE_CHECKING:
    import httpx

    from nbtoolkit.azure.container_apps.app import ContainerApp

QUIET_TIMEOUT = 90.0
"""Seconds without a record until a stream counts as lost; Azure sends one every 60 seconds."""
_MAX_REDIRECTS = 5


@dataclass(frozen=True)
class LogSource:
    """One stream: its URL, the replica or app that it belongs to, and the parser of its records."""

    url: str
    name: str
    parse: RecordParser


class StreamInterrupted(Exception):
    """A stream broke off or could not be opened, and may be retried after ``retry_after`` seconds."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class StreamEnded(Exception):
    """The replica of a stream has ended."""


class LogStreamClient:
    """Open the streams of one app, all in one event loop."""

    def __init__(self, app: ContainerApp) -> None:
        self._app = app
        self._token = ""
        self._token_lock = asyncio.Lock()

    async def records(self, source: LogSource, *, tail: int, follow: bool) -> AsyncGenerator[LogRecord]:
        """Yield the last ``tail`` records, then with ``follow`` new ones until the stream ends.

        Raises :class:`StreamInterrupted`, :class:`StreamEnded`, and :class:`AzureFailed` if a retry is
        useless.
        """
        import httpx

        try:
            async with (
                self._app.cloud.async_http() as http,
                aclosing(await self._open(http, source, tail, follow)) as response,
            ):
                rest = b""
                async for block in response.aiter_bytes():
                    # not aiter_lines: it splits at more than line feeds
                    *lines, rest = (rest + block).split(b"\n")
                    for line in filter(bytes.strip, lines):
                        yield _parse(source, line)
                if rest.strip():  # the last line may have no line feed
                    yield _parse(source, rest)
        except httpx.HTTPError as error:
            raise StreamInterrupted(f"{type(error).__name__}: {error}") from error

    async def _open(
        self, http: httpx.AsyncClient, source: LogSource, tail: int, follow: bool
    ) -> httpx.Response:
        token = await self._fresh_token("")
        response = await _send(http, source.url, token, tail, follow)
        if response.status_code == 401:
            await response.aclose()
            response = await _send(http, source.url, await self._fresh_token(token), tail, follow)
        if response.status_code != 200:
            await response.aclose()
            raise _refusal(source, response)
        return response

    async def _fresh_token(self, rejected: str) -> str:
        """Return the token, which is valid for an hour; a new one if ``rejected`` was refused."""
        async with self._token_lock:
            if self._token in ("", rejected):
                try:
                    self._token = await asyncio.wrap_future(
                        start_daemon(self._app.auth_token, name="log-token")
                    )
                except AzureFailed as error:
                    if is_transient(error):
                        raise StreamInterrupted(error.message) from error
                    raise
            return self._token


async def _send(http: httpx.AsyncClient, url: str, token: str, tail: int, follow: bool) -> httpx.Response:
    """Request a stream and follow redirects; the token is only sent to hosts of the same owner."""
    import httpx

    owner = _owner(url)
    target = httpx.URL(url).copy_merge_params(
        {"follow": str(follow).lower(), "output": "json", "tailLines": str(tail)}
    )
    headers = {"Authorization": f"Bearer {token}"}
    timeout = httpx.Timeout(30, read=QUIET_TIMEOUT)
    for _ in range(_MAX_REDIRECTS):
        if target.scheme != "https" or _owner(str(target)) != owner:
            raise AzureFailed(
                f"The log stream was redirected to {target.host}, which does not belong to {owner}.",
                next_step="read the log in the portal; no token was sent there",
                code="ForeignRedirect",
            )
        request = http.build_request("GET", target, headers=headers, timeout=timeout)
        response = await http.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        await response.aclose()
        target = response.next_request.url
    raise StreamInterrupted(f"more than {_MAX_REDIRECTS} redirects")


def is_transient(error: AzureFailed) -> bool:
    """Return whether the same request may succeed later."""
    status = error.status
    return not isinstance(error, NotSignedIn) and (status is None or status == 429 or status >= 500)


def _parse(source: LogSource, line: bytes) -> LogRecord:
    return source.parse(line.decode("utf-8", "replace").strip("\r"), source.name)


def _owner(url: str) -> str:
    """Return the registered domain of a URL's host; all its hosts have the same owner."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def _refusal(source: LogSource, response: httpx.Response) -> Exception:
    status = response.status_code
    if status == 404:
        return StreamEnded(source.name)
    if status == 429 or status >= 500:
        return StreamInterrupted(f"HTTP {status}", retry_after(response.headers))
    return AzureFailed(
        f"Azure refuses the log of {source.name}: HTTP {status}.",
        next_step="get a role with the data action Microsoft.App/containerApps/logstream/action, or read the "
        "log in Log Analytics",
        code=f"HTTP{status}",
        status=status,
        request_id=response.headers.get("x-ms-request-id"),
    )
