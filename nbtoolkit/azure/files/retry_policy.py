"""How a request to Azure Files is tried again: as long as the service asks, and no longer than a cancel."""

from __future__ import annotations

import base64
import hashlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from azure.storage.fileshare import ExponentialRetry

from nbtoolkit.azure.files.concurrency import CANCEL_POLL
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import NbtoolkitError

RETRY_TIMEOUT = 120
"""Seconds for which a busy service is asked again."""
UNREACHED = 20
"""Seconds for which a service that cannot be reached is asked again."""
IN_USE = 6
"""Seconds for which something that a mount holds open is asked for again."""
AGAIN = (408, 429, 500, 502, 503, 504)
HELD = ("SharingViolation", "FileLockConflict", "DeletePending", "FileOpenBySmbClient", "Md5Mismatch")
"""Refusals that pass: mounts close files a moment late, and a garbled range is sent once more."""


class Interrupted(Exception):
    """Whoever wanted the answer no longer waits; never leaves this package."""


class RetryState:
    """The attempts of one request; ``unsure`` once it is not known whether one of them was carried out.

    ``stop`` ends them from another thread; ``beat`` is called in this one while it waits, and may raise.
    """

    def __init__(
        self, stop: threading.Event | None = None, beat: Callable[[int], object] | None = None
    ) -> None:
        self._stop = stop or threading.Event()
        self._beat = beat
        self.unsure = False

    def wait(self, seconds: float) -> None:
        """Wait; raises Interrupted when told to stop."""
        end = time.monotonic() + seconds
        while True:
            if self._beat:
                self._beat(0)
            left = end - time.monotonic()
            if self._stop.wait(max(0, min(left, CANCEL_POLL))):
                raise Interrupted
            if left <= CANCEL_POLL:
                return


class InterruptibleRetryPolicy(ExponentialRetry):
    """Retry as the service asks with Retry-After, else with growing pauses.

    The SDK's own policies neither know Retry-After nor 429, wait 15 s and more, and cannot be interrupted.
    A request names its :class:`Tries` by the option ``tries``.
    """

    def send(self, request: Any) -> Any:
        """Send a request until it has an answer that counts."""
        tries: RetryState = request.context.options.pop("tries", None) or RetryState()
        settings = self.configure_retries(request)  # takes the options that no transport knows
        start = time.monotonic()
        attempt = 0
        while True:
            tries.wait(0)
            pause = min(0.25 * 2**attempt, 10) * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                response: Any = self.next.send(request)
                _read(request, response)
            except (NbtoolkitError, ClientAuthenticationError):
                raise  # nobody is signed in
            except (AzureError, OSError) as error:
                if isinstance(error, HttpResponseError) and error.status_code:
                    raise
                tries.unsure = True
                limit = UNREACHED if isinstance(error, ServiceRequestError) else RETRY_TIMEOUT
                if time.monotonic() + pause > start + limit:
                    raise
            else:
                limit = _limit(response.http_response)
                pause = retry_after(response.http_response.headers) or pause
                if time.monotonic() + pause > start + limit:
                    response.http_response.location_mode = settings["mode"]
                    return response
                tries.unsure |= response.http_response.status_code >= 500
            tries.wait(pause)
            attempt += 1


class _Garbled(AzureError):
    """What arrived is not what the service sent."""


def _read(request: Any, response: Any) -> None:
    """Read a download to its end here, where it can still be asked for again."""
    answer = response.http_response
    if not request.context.options.get("stream") or answer.status_code not in (200, 206):
        return
    content: bytes = answer.read()
    expected: str | None = answer.headers.get("Content-MD5")
    if (
        expected
        and base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode() != expected
    ):
        raise _Garbled("the MD5 of a range is not the one that the service sent")


def _limit(answer: Any) -> float:
    """Return for how many seconds such an answer is no answer yet."""
    if answer.status_code in AGAIN:
        return RETRY_TIMEOUT
    return IN_USE if answer.headers.get("x-ms-error-code") in HELD else 0
