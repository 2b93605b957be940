"""Wait until an endpoint is ready, and report the reason while it is not."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from nbtoolkit.endpoint.http_client import HELD
from nbtoolkit.errors import NotReady, RequestRefused
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import CallTimeout, start_daemon, wait_cancellable

RETRY_TIMEOUT = 60.0
"""Seconds until a lasting reason is final: a new DNS name does not resolve at first."""
POLL = 0.5
"""Seconds between two requests."""
_HELD_AFTER = 3.0
"""Seconds after which a request counts as held by the ingress."""

Failure = NotReady | RequestRefused


def wait_ready(
    not_ready_reason: Callable[[], str],
    url: str,
    timeout: float,
    progress: Progress,
    *,
    poll: float = POLL,
    retry_timeout: float = RETRY_TIMEOUT,
) -> None:
    """Call ``not_ready_reason`` until it returns an empty text; its text or error is the reason until then.

    Each call runs in a daemon thread, since an ingress may hold the request for minutes: a cancel abandons
    it. Raises :class:`NotReady` with the last reason after ``timeout`` seconds, and after ``retry_timeout``
    seconds of a reason that waiting does not change.
    """
    deadline, reason, lasting_since = time.monotonic() + timeout, "", float("inf")
    failure: Failure | None = None

    def note(text: str) -> None:
        nonlocal reason
        if text != reason:
            progress.note(reason := text)

    def is_ready() -> bool:
        nonlocal failure, lasting_since
        future = start_daemon(not_ready_reason, name="readiness")
        failure = None
        try:
            with suppress(CallTimeout):
                wait_cancellable(progress, [future], timeout=min(_HELD_AFTER, deadline - time.monotonic()))
            if not future.done() and time.monotonic() < deadline:
                note(HELD)
            wait_cancellable(progress, [future], timeout=max(0.0, deadline - time.monotonic()))
            current = future.result()
        except CallTimeout:
            raise _not_ready(url, timeout, reason or HELD, None) from None
        except (NotReady, RequestRefused) as error:
            failure = error
            current = (error.reason if isinstance(error, NotReady) else "") or error.message
        if not current:
            return True
        note(current)
        lasting = isinstance(failure, NotReady) and failure.lasting
        lasting_since = min(lasting_since, time.monotonic()) if lasting else float("inf")
        if time.monotonic() - lasting_since >= retry_timeout:
            raise _not_ready(url, timeout, reason, failure)
        return False

    if not progress.wait_until(is_ready, timeout=timeout, interval=poll):
        raise _not_ready(url, timeout, reason, failure)


def _not_ready(url: str, timeout: float, reason: str, failure: Failure | None) -> NotReady:
    by_ingress = isinstance(failure, NotReady) and failure.lasting is not None
    return NotReady(
        f"{url} was not ready within {timeout:g} s: {reason}.",
        next_step=failure.next_step
        if failure and by_ingress
        else "look at the target's status() and logs(), or wait longer",
        reason=reason,
    )
