"""Return the last value while polling fails with a transient error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from nbtoolkit.errors import AzureFailed, NotInStore, NotSignedIn, StoreError

T = TypeVar("T")

MAX_STALE = 60.0
"""Seconds of consecutive failures after which the error is raised."""


class StaleCache:
    """Cache the last value of each key and return it for ``max_stale`` seconds while fetching fails.

    Without it one reset connection during the minutes of a deploy would roll the deploy back.
    """

    def __init__(self, max_stale: float = MAX_STALE) -> None:
        self._max_stale = max_stale
        self._values: dict[str, Any] = {}
        self._failing_since: dict[str, float] = {}

    def get(self, key: str, fetch: Callable[[], T]) -> T:
        """Return ``fetch()``, or the last value of ``key`` if that raises a transient error."""
        try:
            value = fetch()
        except NotInStore:
            raise
        except (AzureFailed, StoreError) as error:
            since = self._failing_since.setdefault(key, time.monotonic())
            expired = time.monotonic() - since > self._max_stale
            if key not in self._values or _is_permanent(error) or expired:
                raise
            return cast("T", self._values[key])
        self._failing_since.pop(key, None)
        self._values[key] = value
        return value


def _is_permanent(error: AzureFailed | StoreError) -> bool:
    return isinstance(error, NotSignedIn) or error.status in (400, 401, 403, 404)
