"""Retry policy of Azure Files: time limits by cause, Retry-After, interruptible pauses."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from azure.storage.fileshare import ExponentialRetry

from nbtoolkit.azure.files.request_limits import RETRY_STATE, ShareLimits
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import NbtoolkitError

_RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_RETRIED_CODES = (
    "SharingViolation",
    "FileLockConflict",
    "DeletePending",
    "FileOpenBySmbClient",
    "Md5Mismatch",
)
"""Transient refusals: mounts close files a moment late, and a corrupted range is sent again."""


class InterruptibleRetryPolicy(ExponentialRetry):
    """Retry after the pause of Retry-After, else with exponential backoff and jitter.

    The storage SDK's policies ignore Retry-After and 429, and pause for 15 s and more. azure-core's
    RetryPolicy counts attempts; here each cause has a limit in seconds, a pause can be interrupted, and a
    download is verified within its attempt. :data:`RETRY_STATE` holds the state of the current request.
    """

    def __init__(self, limits: ShareLimits) -> None:
        super().__init__()
        self._limits = limits

    def send(self, request: Any) -> Any:
        """Send a request until its response is final."""
        retry_state = RETRY_STATE.get()
        settings = self.configure_retries(request)  # removes options that the transport does not accept
        start = time.monotonic()
        attempt = 0
        while True:
            retry_state.wait(0)
            pause = min(0.25 * 2**attempt, 10) * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                response: Any = self.next.send(request)
                _read_and_verify(request, response)
            except (NbtoolkitError, ClientAuthenticationError):
                raise  # not signed in
            except (AzureError, OSError) as error:
                if isinstance(error, HttpResponseError) and error.status_code:
                    raise
                retry_state.maybe_applied = True
                unreachable = isinstance(error, ServiceRequestError)
                limit = self._limits.retry_unreachable if unreachable else self._limits.retry_busy
                if time.monotonic() + pause > start + limit:
                    raise
            else:
                limit = self._retry_timeout(response.http_response)
                pause = retry_after(response.http_response.headers) or pause
                if time.monotonic() + pause > start + limit:
                    response.http_response.location_mode = settings["mode"]
                    return response
                retry_state.maybe_applied |= response.http_response.status_code >= 500
            retry_state.wait(pause)
            attempt += 1

    def _retry_timeout(self, response: Any) -> float:
        """Return for how many seconds a request with this response is retried; 0 if the response is final."""
        if response.status_code in _RETRIED_STATUSES:
            return self._limits.retry_busy
        return self._limits.retry_in_use if response.headers.get("x-ms-error-code") in _RETRIED_CODES else 0


class _ChecksumMismatch(AzureError):
    """A range does not have the MD5 that the service sent with it."""


def _read_and_verify(request: Any, response: Any) -> None:
    """Read a download to its end within the attempt, so that a failure is retried."""
    answer = response.http_response
    if not request.context.options.get("stream") or answer.status_code not in (200, 206):
        return
    content: bytes = answer.read()
    expected: str | None = answer.headers.get("Content-MD5")
    if not expected:
        return
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    if md5 != expected:
        raise _ChecksumMismatch("the MD5 of a range is not the one that the service sent")
