"""Errors of the engine; the process exits if CUDA has become unusable."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from ...openai_format import ApiError

log = logging.getLogger(__name__)


class EngineStartRefused(Exception):
    """The engine cannot serve this model on this machine; the message has the reason and the next step."""


def exit_process() -> NoReturn:
    """End the process with exit code 1 at once, without its threads: the gateway starts the next one."""
    logging.shutdown()
    os._exit(1)


def exit_if_device_lost(error: BaseException) -> None:
    """End the process if its CUDA context is broken: every later step would fail as well."""
    if _device_lost(error):
        log.critical("CUDA is unusable in this process, which ends", exc_info=error)
        exit_process()


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Return the 404 for a model that is not served; the base never replaces it."""
    return ApiError(
        f"The model `{name}` does not exist. Served here: {', '.join(known)}.",
        status=404,
        kind="NotFoundError",
        param="model",
        code="model_not_found",
    )


def _device_lost(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, makes CUDA unusable; out of memory does not."""
    cause: BaseException | None = error
    while cause is not None:
        names = {kind.__name__ for kind in type(cause).__mro__}  # torch is not imported here
        text = str(cause)
        broken = "AcceleratorError" in names or (isinstance(cause, RuntimeError) and "CUDA error" in text)
        if broken and "out of memory" not in text and "ALLOC_FAILED" not in text:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def step_failed(error: BaseException) -> ApiError:
    """Return the 500 for an answer that a failed step interrupted."""
    text = " ".join(str(error).split())[:500]
    return ApiError(
        f"The engine could not finish this answer: {type(error).__name__}: {text}",
        status=500,
        kind="server_error",
        code="engine_error",
    )
