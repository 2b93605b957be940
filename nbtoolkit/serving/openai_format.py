"""Errors and server-sent events in the format of the OpenAI API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.responses import JSONResponse

STREAM_END = "[DONE]"
"""The data of the last event."""

REPLICA_HEADER = "x-nbtoolkit-replica"
"""The response header that names the replica that answered."""


class ApiError(Exception):
    """A request is answered with an OpenAI error body.

    ``param`` names the request's field at fault, ``details`` are further fields of the error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        error = {"message": message, "type": kind, "param": param, "code": code}
        self.body: dict[str, Any] = {"error": {**error, **(details or {})}}

    @property
    def event(self) -> bytes:
        """The SSE event that ends a stream with this error; official clients raise it."""
        text = json.dumps(self.body, ensure_ascii=False, separators=(",", ":"))
        return b"data: " + text.encode() + b"\n\n"

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        from starlette.responses import JSONResponse  # clients of a server have no starlette

        return JSONResponse(self.body, self.status, self.headers)


def event_data(lines: Iterable[str]) -> Iterator[str]:
    """Yield the data of each event; comments, which keep an idle connection open, are skipped."""
    for line in lines:
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()
