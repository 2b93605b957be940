"""Change a resource of Container Apps: one change after another, and patiently beside those of others."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from nbtoolkit.azure import sdk
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable

T = TypeVar("T")

CONFLICTS = (
    "ContainerAppLockConflict",
    "ContainerAppOperationInProgress",
    "ManagedEnvironmentOperationInProgress",
    "OperationInProgress",
)
"""Codes with which Azure refuses a change while another one runs; the same request works later."""
RETRY_TIMEOUT = 600.0
"""Seconds until a conflict is passed on as an error."""
_LONGEST_PAUSE = 15.0

_locks: dict[str, Lock] = {}
_locks_lock = Lock()


def change(
    resource_id: str,
    what: str,
    begin: Callable[[], Any],
    progress: Progress,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Make one change of a resource, from its start to its end; ``what`` names it, as in "stop the app x".

    ``begin`` starts it and returns the SDK's poller, or None for a change that ends with its request. Changes
    of one resource from this process come one after another; where Azure refuses because somebody else's
    change runs, it is asked again for ten minutes. ``meanwhile`` is called again and again until the end, and
    what it raises ends the waiting. Raises :class:`AzureFailed`, and :class:`Cancelled`, which
    says that Azure goes on with a change that was begun, or that may have been.
    """
    lock = _lock_of(resource_id)
    while not lock.acquire(timeout=1):
        progress.check()
    try:
        with translate_errors(what):
            _again(begin, what, progress, meanwhile or progress.check)
    finally:
        lock.release()


def start_request(what: str, begin: Callable[[], T], progress: Progress) -> T:
    """Return what ``begin`` returns, which asks Azure for a change; ``what`` names it.

    A cancel leaves a request without an answer behind: :class:`Cancelled` says that it may count.
    """
    try:
        return run_cancellable(progress, begin)
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(
            f"Stopped before Azure answered the request to {what}; it may have begun that, and goes on then.",
            next_step="look in a minute whether it did, then run the step again",
        ) from stopped


def _again(begin: Callable[[], Any], what: str, progress: Progress, meanwhile: Callable[[], None]) -> None:
    from azure.core.exceptions import HttpResponseError

    deadline = time.monotonic() + RETRY_TIMEOUT
    pause = float(sdk.POLL_INTERVAL)
    while True:
        progress.check()
        try:
            _finish(start_request(what, begin, progress), what, progress, meanwhile)
            return
        except HttpResponseError as error:
            code = _conflict(error)
            if code is None or time.monotonic() >= deadline:
                raise
            progress.note(f"Azure is busy with another change ({code}); trying again")
            answer: Any = error.response
            progress.sleep(max(pause, retry_after(answer.headers) or 0.0))
            pause = min(2 * pause, _LONGEST_PAUSE)


def _finish(poller: Any, what: str, progress: Progress, meanwhile: Callable[[], None]) -> None:
    """Wait for the end of a change; ``poller.wait`` raises what went wrong."""
    if poller is None:
        return
    try:
        while not poller.done():
            poller.wait(0.5)  # in which the poller's own thread asks, so that a cancel is heard
            progress.check()
            meanwhile()
        poller.wait()
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(
            f"Stopped waiting for Azure to {what}; Azure goes on with it.",
            next_step="look at target.status() in a minute, then run the step again",
        ) from stopped


def _conflict(error: Any) -> str | None:
    code = str(getattr(getattr(error, "error", None), "code", None) or "")
    return code if code in CONFLICTS else None


def _lock_of(resource_id: str) -> Lock:
    with _locks_lock:
        return _locks.setdefault(resource_id.lower(), Lock())
