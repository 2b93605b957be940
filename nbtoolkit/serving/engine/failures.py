"""Errors as the OpenAI API words them."""

from __future__ import annotations

import logging
import os
from typing import Any, NoReturn


class ApiError(Exception):
    """A refusal that the client sees as an OpenAI error body; ``param`` names the field at fault."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.facts = facts

    @property
    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": {**error, **self.facts}}


class StartRefused(Exception):
    """The engine cannot serve this model on this machine; the message says why and what to do."""


def end_now() -> NoReturn:
    """End the process with exit code 1, whatever its other threads do: the front starts the next one."""
    logging.shutdown()
    os._exit(1)


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Return the 404 for a model that is not served; never the base in its place."""
    return ApiError(
        f"The model `{name}` does not exist. Served here: {', '.join(known)}.",
        status=404,
        kind="NotFoundError",
        param="model",
        code="model_not_found",
    )


def step_failed(error: BaseException) -> ApiError:
    """Return the 500 for an answer that a failing step cut off."""
    text = " ".join(str(error).split())[:500]
    return ApiError(
        f"The engine could not finish this answer: {type(error).__name__}: {text}",
        status=500,
        kind="server_error",
        code="engine_error",
    )
