"""Errors of the engine, and the end of its process when CUDA is lost."""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from ...openai_errors import ApiError

log = logging.getLogger(__name__)


class EngineStartRefused(Exception):
    """The engine cannot serve this model on this machine; the message says why and what to do."""


def exit_process() -> NoReturn:
    """End the process with exit code 1, whatever its other threads do: the front starts the next one."""
    logging.shutdown()
    os._exit(1)


def exit_if_device_lost(error: BaseException) -> None:
    """End the process where its CUDA context is broken: every later step would fail as well."""
    if _device_lost(error):
        log.critical("the GPU cannot be used any more by this process, which ends", exc_info=error)
        exit_process()


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
