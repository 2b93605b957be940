"""Errors as the OpenAI API words them."""

from __future__ import annotations

import logging
import os
from typing import Any, NoReturn

log = logging.getLogger(__name__)


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


class EngineStartRefused(Exception):
    """The engine cannot serve this model on this machine; the message says why and what to do."""


def end_now() -> NoReturn:
    """End the process with exit code 1, whatever its other threads do: the front starts the next one."""
    logging.shutdown()
    os._exit(1)


def end_if_device_lost(error: BaseException) -> None:
    """End the process where its CUDA context is broken: every later step would fail as well."""
    if _device_lost(error):
        log.critical("the GPU cannot be used any more by this process, which ends", exc_info=error)
        end_now()


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Return the 404 for a model that is not served; never the base in its place."""
    return ApiError(
        f"The model `{name}` does not exist. Served here: {', '.join(known)}.",
        status=404,
        kind="NotFoundError",
        param="model",
        code="model_not_found",
    )


def _device_lost(error: BaseException) -> bool:
    """Tell whether an error, or one behind it, leaves CUDA unusable; lack of memory does not."""
    seen: BaseException | None = error
    while seen is not None:
        names = {kind.__name__ for kind in type(seen).__mro__}  # torch is not imported here
        said = str(seen)
        broken = "AcceleratorError" in names or (isinstance(seen, RuntimeError) and "CUDA error" in said)
        if broken and "out of memory" not in said and "ALLOC_FAILED" not in said:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def step_failed(error: BaseException) -> ApiError:
    """Return the 500 for an answer that a failing step cut off."""
    text = " ".join(str(error).split())[:500]
    return ApiError(
        f"The engine could not finish this answer: {type(error).__name__}: {text}",
        status=500,
        kind="server_error",
        code="engine_error",
    )
