"""HTTP/1.1 as values: a request whose body streams in, a response whose body streams out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote

Handler = Callable[["Request"], "Response"]

CHUNK = 1 << 20


class ClientDisconnected(ConnectionError):
    """The client closed the connection in the middle of a request."""


class Body:
    """A request's body, read at most once, whatever its framing."""

    def __init__(self, stream: BinaryIO, headers: Mapping[str, str], proceed: Callable[[], None]) -> None:
        self._stream = stream
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._left = 0 if self._chunked else int(headers.get("content-length") or 0)
        self._ended = not self._chunked and not self._left
        self._proceed = proceed if "100-continue" in headers.get("expect", "").lower() else None

    def readinto(self, target: memoryview) -> int:
        """Fill the start of `target`; 0 at the end. Big targets save copies."""
        if self._proceed:
            self._proceed()
            self._proceed = None
        if self._chunked and not self._left and not self._ended:
            self._next_chunk()
        if self._ended:
            return 0
        count = self._stream.readinto(target[: self._left])  # type: ignore[attr-defined]
        if not count:
            raise ClientDisconnected("the request's body ended early")
        self._left -= count
        if not self._left:
            if self._chunked:
                self._stream.readline()
            else:
                self._ended = True
        return count

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, all that is left by default; empty at the end."""
        pieces = bytearray()
        buffer = memoryview(bytearray(min(size, CHUNK) if size >= 0 else self._left or CHUNK))
        while size < 0 or len(pieces) < size:
            wanted = len(buffer) if size < 0 else min(len(buffer), size - len(pieces))
            count = self.readinto(buffer[:wanted])
            if not count:
                break
            pieces += buffer[:count]
        return bytes(pieces)

    def __iter__(self) -> Iterable[bytes]:
        while piece := self.read(1 << 16):
            yield piece

    def drain(self) -> None:
        """Read the rest of the body, so that the connection can be reused."""
        buffer = memoryview(bytearray(CHUNK))
        while self.readinto(buffer):
            pass

    def _next_chunk(self) -> None:
        line = self._stream.readline(1024)
        if not line:
            raise ClientDisconnected("the request's body ended early")
        self._left = int(line.split(b";")[0], 16)
        if not self._left:
            while self._stream.readline(65536).strip():  # trailers
                pass
            self._ended = True


@dataclass
class Request:
    """One request; header names are lower case, `path` is as sent, percent signs included."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Body
    _bytes: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, method: str, host: str, target: str, headers: dict[str, str], body: Body) -> Request:
        path, _, query = target.partition("?")
        return cls(method, host, path, dict(parse_qsl(query, keep_blank_values=True)), headers, body)

    @property
    def decoded_path(self) -> str:
        """The path with percent signs resolved."""
        return unquote(self.path)

    def read(self) -> bytes:
        """The whole body, kept for a second reader."""
        if self._bytes is None:
            self._bytes = self.body.read()
        return self._bytes

    def json(self) -> Any:
        """The body as JSON; {} when there is none."""
        text = self.read()
        if not text:
            return {}
        try:
            return json.loads(text)
        except ValueError as error:
            raise Refused(
                400, "InvalidRequestContent", f"The request content was invalid: {error}"
            ) from error


@dataclass
class Response:
    """One answer; a body that is not bytes is sent piece by piece as it comes, chunked."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | memoryview | Iterable[bytes] = b""
    reset: bool = False
    """Reset the connection after half of the body (before the head if there is no body)."""

    @classmethod
    def of(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """A JSON answer."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        return cls(status, {"content-type": "application/json; charset=utf-8", **(headers or {})}, text)

    @classmethod
    def error(
        cls, status: int, code: str, message: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Response:
        """Return an error in ARM's format: {"error": {"code", "message", …}}."""
        return cls.of(
            {"error": {"code": code, "message": message, **more}},
            status,
            {"x-ms-failure-cause": "gateway", **(headers or {})},
        )

    def json(self) -> Any:
        """The body as JSON, for callers inside the double."""
        return json.loads(bytes(self.body)) if self.body else None  # type: ignore[arg-type]


class Refused(Exception):
    """A refusal by the service; it becomes the response or the error of an operation."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        response: Response | None = None,
        **more: Any,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.more = more
        self.response = response or Response.error(status, code, message, headers, **more)

    @property
    def error(self) -> dict[str, Any]:
        """The `error` object."""
        return {"code": self.code, "message": self.message, **self.more}
