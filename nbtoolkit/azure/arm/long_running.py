"""Change a resource: one change at a time, with a retry while Azure reports a conflict."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import CANCEL_POLL, run_cancellable

T = TypeVar("T")

CONFLICTS = (
    "ContainerAppLockConflict",
    "ContainerAppOperationInProgress",
    "ManagedEnvironmentOperationInProgress",
    "OperationInProgress",
)
"""Codes with which Azure refuses a change while another one runs; the same request works later."""
RETRY_TIMEOUT = 600.0
"""Seconds after which a conflict is raised."""
_MAX_PAUSE = 15.0
_POLLER_WAIT = 0.5
"""Seconds for which a poller blocks between two checks for a cancel."""

_locks: dict[str, Lock] = {}
_locks_lock = Lock()


def change(
    resource_id: str,
    action: str,
    begin: Callable[[], Any],
    progress: Progress,
    meanwhile: Callable[[], None] | None = None,
    *,
    retry_interval: float,
    retry_timeout: float = RETRY_TIMEOUT,
) -> None:
    """Make one change of a resource and wait for its end; ``action`` names it, as in "stop the app x".

    ``begin`` starts the change and returns the SDK's poller, or None for one that ends with its request.
    Changes of one resource from this process run one after another. If Azure reports a conflict with a change
    of another client, the request is repeated for ``retry_timeout`` seconds, with pauses that grow from
    ``retry_interval``. ``meanwhile`` is called repeatedly until the end; an error that it raises ends the
    wait.

    Raises :class:`AzureFailed`, and :class:`Cancelled`, which says that Azure continues a started change.
    """
    from azure.core.exceptions import HttpResponseError

    conflict: HttpResponseError | None = None
    pause = retry_interval

    def changed() -> bool:
        nonlocal conflict
        try:
            _wait_for_end(start_request(action, begin, progress), action, progress, meanwhile)
        except HttpResponseError as error:
            code = str(getattr(error.error, "code", None) or "")
            if code not in CONFLICTS:
                raise
            conflict = error
            progress.note(f"Azure is busy with another change ({code}); trying again")
            return False
        return True

    def next_pause() -> float:
        nonlocal pause
        response: Any = conflict.response if conflict else None
        current = max(pause, retry_after(response.headers) or 0.0) if response is not None else pause
        pause = min(2 * pause, _MAX_PAUSE)
        return current

    with _locks_lock:
        lock = _locks.setdefault(resource_id.lower(), Lock())
    progress.wait_until(lambda: lock.acquire(timeout=CANCEL_POLL), interval=0)
    try:
        with translate_errors(action):
            done = progress.wait_until(changed, timeout=retry_timeout, interval=next_pause)
            if not done and conflict:
                raise conflict
    finally:
        lock.release()


def start_request(action: str, begin: Callable[[], T], progress: Progress) -> T:
    """Send the request of a change and return the result of ``begin``.

    A cancel abandons a request without a response: :class:`Cancelled` says that Azure may have accepted it.
    """
    try:
        return run_cancellable(progress, begin)
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(
            f"Stopped before Azure responded to the request to {action}; "
            "it may have accepted it, and then continues.",
            next_step="check in a minute whether it did, then run the step again",
        ) from stopped


def wait_for_poller(poller: Any, progress: Progress, meanwhile: Callable[[], None] | None = None) -> None:
    """Wait until a poller of the SDK has ended, and check for a cancel twice a second.

    Raises the SDK's errors and :class:`Cancelled`.
    """

    def done() -> bool:
        if poller.done():
            return True
        poller.wait(_POLLER_WAIT)  # the poller sends its requests in a thread of its own
        progress.check()
        if meanwhile is not None:
            meanwhile()
        return False

    progress.wait_until(done, interval=0)
    poller.wait()  # raises the error of the operation


def _wait_for_end(poller: Any, action: str, progress: Progress, meanwhile: Callable[[], None] | None) -> None:
    if poller is None:
        return
    try:
        wait_for_poller(poller, progress, meanwhile)
    except (Cancelled, KeyboardInterrupt) as stopped:
        raise Cancelled(
            f"Stopped waiting for Azure to {action}; Azure continues with it.",
            next_step="call target.status() in a minute, then run the step again",
        ) from stopped
