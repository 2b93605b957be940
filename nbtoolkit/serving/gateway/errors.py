"""Errors in the shape that OpenAI clients read."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse


def error_body(
    message: str, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return the JSON body of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(message: str, code: str) -> bytes:
    """Return the SSE event that ends a stream in an error; official clients raise it."""
    return b"data: " + json.dumps(error_body(message, "server_error", code)).encode() + b"\n\n"


class Refused(Exception):
    """A request is answered with an error of our own."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self.body = error_body(message, kind, code, param)

    def response(self) -> JSONResponse:
        """Return the answer to the client."""
        return JSONResponse(self.body, self.status, self.headers)
