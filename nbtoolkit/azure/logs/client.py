"""Azure's log streams: open one with a token, take it up again where it broke off, skip what was seen."""

from __future__ import annotations

import socket
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nbtoolkit.azure.logs.records import LogLine, LogRecord, RecordParser
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import AzureFailed, NotSignedIn

if TYPE_CHECKING:
    import httpx

    from nbtoolkit.azure.container_apps.app import ContainerApp

MAX_LINES = 300
"""Lines that a stream gives of the past, at most."""
QUIET = 90.0
"""Seconds without a word until a stream is taken for dead; Azure's say something every 60."""
_REDIRECTS = 5
_KEPT = 3 * MAX_LINES


@dataclass(frozen=True)
class LogSource:
    """One stream: where it is, whose it is, and how it is read."""

    url: str
    name: str
    read: RecordParser


class StreamInterrupted(Exception):
    """A stream broke off or could not be opened now; another try may do. ``wait``: seconds Azure asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class StreamEnded(Exception):
    """What the stream is of has ended."""


class LogStreamClient:
    """Open streams of one app. :meth:`close` ends all that are open, from any thread."""

    def __init__(self, app: ContainerApp) -> None:
        self._app = app
        self._token = ""
        self._signing, self._lock = threading.Lock(), threading.Lock()
        self._open: set[httpx.Response] = set()
        self.closed = threading.Event()

    def records(self, source: LogSource, *, tail: int, follow: bool) -> Iterator[LogRecord]:
        """Yield the last ``tail`` records, then with ``follow`` new ones until the stream ends.

        Raises :class:`Cut`, :class:`Gone`, and :class:`AzureFailed` where another try would not help.
        """
        import httpx

        try:
            with self._opened(source, tail, follow) as response:
                for raw in _lines(response):
                    yield source.read(raw, source.name)
        except httpx.HTTPError as error:
            raise StreamInterrupted(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """End all streams; whoever reads one sees it cut."""
        self.closed.set()
        with self._lock:
            for response in self._open:
                _shut(response)

    @contextmanager
    def _opened(self, source: LogSource, tail: int, follow: bool) -> Generator[httpx.Response]:
        response = self._send(source, tail, follow)
        with self._lock:
            self._open.add(response)
            if self.closed.is_set():  # close() has not seen this one
                _shut(response)
        try:
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def _send(self, source: LogSource, tail: int, follow: bool) -> httpx.Response:
        token = self._fresh_token("")
        response = self._follow_redirects(source.url, token, tail, follow)
        if response.status_code == 401:
            response.close()
            response = self._follow_redirects(source.url, self._fresh_token(token), tail, follow)
        if response.status_code != 200:
            response.close()
            raise _refused(source, response)
        return response

    def _follow_redirects(self, url: str, token: str, tail: int, follow: bool) -> httpx.Response:
        import httpx

        client = self._app.cloud.http()
        owner = _owner(url)
        target = httpx.URL(url).copy_merge_params(
            {"follow": str(follow).lower(), "output": "json", "tailLines": str(tail)}
        )
        for _ in range(_REDIRECTS):
            if target.scheme != "https" or _owner(str(target)) != owner:
                raise AzureFailed(
                    f"The log stream was redirected to {target.host}, which does not belong to {owner}.",
                    next_step="read the log in the portal; no token was sent there",
                    code="ForeignRedirect",
                )
            headers = {"Authorization": f"Bearer {token}"}
            request = client.build_request(
                "GET", target, headers=headers, timeout=httpx.Timeout(30, read=QUIET)
            )
            response = client.send(request, stream=True, follow_redirects=False)
            if response.next_request is None:
                return response
            response.close()
            target = response.next_request.url
        raise StreamInterrupted(f"more than {_REDIRECTS} redirects")

    def _fresh_token(self, stale: str) -> str:
        """Return the token, another one than ``stale`` where that was refused: it is good for an hour."""
        with self._signing:
            if not self._token or self._token == stale:
                try:
                    self._token = self._app.auth_token()
                except AzureFailed as error:
                    if transient(error):
                        raise StreamInterrupted(error.message) from error
                    raise
            return self._token


class SeenRecords:
    """What of a stream was shown, so that one taken up again shows nothing twice and leaves nothing out.

    A stream's past is at most 300 records long, so remembering some more of them is enough. What is older
    than all of these was not asked for.
    """

    def __init__(self) -> None:
        self._recent: deque[LogRecord] = deque(maxlen=_KEPT)
        self._replay: Counter[str] = Counter()
        self._oldest: datetime | None = None
        self._fresh = 0
        self._met = True

    def take_up(self) -> None:
        """Begin a stream again."""
        self._replay = Counter(record.raw for record in self._recent)
        self._oldest = min((record.at for record in self._recent), default=None)
        self._fresh, self._met = 0, not self._recent

    def since(self, at: datetime) -> None:
        """Count everything before this moment as shown, where nothing was."""
        if not self._recent:
            self._recent.append(LogRecord("", at, None))

    def is_new(self, record: LogRecord) -> bool:
        """Tell whether a record is to be shown, and remember it."""
        if self._replay[record.raw] > 0:
            self._replay[record.raw] -= 1
            self._met = True
            return False
        if self._oldest and record.at < self._oldest:
            return False
        self._recent.append(record)
        self._fresh += 1
        return True

    @property
    def lost(self) -> bool:
        """Whether a stream's whole past is new, so that what came before it is lost."""
        return not self._met and self._fresh == MAX_LINES


def transient(error: AzureFailed) -> bool:
    """Tell whether Azure may answer the same request a little later."""
    status = error.status
    return not isinstance(error, NotSignedIn) and (status is None or status == 429 or status >= 500)


def lost_lines(source: LogSource, at: datetime) -> LogLine:
    """Return the note that lines are missing."""
    text = f"the stream of {source.name} was interrupted for more than {MAX_LINES} lines: some are missing"
    return LogLine(at, source.name, text, "note")


def _lines(response: httpx.Response) -> Iterator[str]:
    rest = b""
    for block in response.iter_bytes():
        *lines, rest = (rest + block).split(b"\n")  # not iter_lines: it splits at more than line feeds
        yield from _texts(lines)
    yield from _texts([rest])  # the last line, where no line feed ends it


def _texts(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.decode("utf-8", "replace").strip("\r") for line in lines if line.strip())


def _shut(response: httpx.Response) -> None:
    """Wake whoever reads; closing the response would not."""
    stream: Any = response.extensions.get("network_stream")
    raw = stream and stream.get_extra_info("socket")
    with suppress(OSError):  # closed already
        if isinstance(raw, socket.socket):
            socket.socket.shutdown(raw, socket.SHUT_RDWR)


def _owner(url: str) -> str:
    """Return the domain whose hosts all belong to the one who owns this one's."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def _refused(source: LogSource, response: httpx.Response) -> Exception:
    status = response.status_code
    if status == 404:
        return StreamEnded(source.name)
    if status == 429 or status >= 500:
        return StreamInterrupted(f"HTTP {status}", retry_after(response.headers))
    step = "get a role with the data action Microsoft.App/containerApps/logstream/action, or read the log in "
    step += "Log Analytics"
    return AzureFailed(
        f"Azure does not give the log of {source.name}: HTTP {status}.",
        next_step=step,
        code=f"HTTP{status}",
        status=status,
        request_id=response.headers.get("x-ms-request-id"),
    )
