"""Poll an app's revisions and replicas with a limited number of requests."""

from __future__ import annotations

import time

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.container_apps.stale_cache import StaleCache


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
