"""Poll an app's revisions and replicas, with a cache for the time while Azure fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.errors import AzureFailed, NotInStore, NotSignedIn, StoreError

T = TypeVar("T")


class StaleCache:
    """Cache the last value of each key and return it while fetching fails with a transient error.

    The error is raised after ``max_stale`` seconds of consecutive failures. Without the cache one reset
    connection during the minutes of a deploy would roll the deploy back.
    """

    def __init__(self, max_stale: float = 60.0) -> None:
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


class AppPoller:
    """Cache a snapshot of one app for ``interval`` seconds.

    A new snapshot costs one request and one more for each active revision. If Azure fails for a while, the
    last snapshot is returned.
    """

    def __init__(self, app: ContainerApp, interval: float = 5.0) -> None:
        self._app = app
        self._interval = interval
        self._cache = StaleCache()
        self._snapshot = AppSnapshot()
        self._time = float("-inf")

    def snapshot(self, *, fresh: bool = False) -> AppSnapshot:
        """Return the cached snapshot, or a new one if the cached one is too old or with ``fresh``."""
        if fresh or time.monotonic() - self._time >= self._interval:
            self._snapshot = self._cache.get("snapshot", self._read)
            self._time = time.monotonic()
        return self._snapshot

    def invalidate(self) -> None:
        """Drop the cached snapshot after a change of the app."""
        self._time = float("-inf")

    def _read(self) -> AppSnapshot:
        active = tuple(one for one in self._app.revisions() if one.active)
        return AppSnapshot(active, {one.name: tuple(self._app.replicas(one.name)) for one in active})


def _is_permanent(error: AzureFailed | StoreError) -> bool:
    return isinstance(error, NotSignedIn) or error.status in (400, 401, 403, 404)
