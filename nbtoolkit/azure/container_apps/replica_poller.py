"""Look at an app's revisions and replicas again and again, without asking Azure more often than needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.models import ReplicaState, RevisionState
from nbtoolkit.azure.container_apps.stale_cache import LastAnswer


@dataclass(frozen=True)
class AppSnapshot:
    """The active revisions, the newest first, and their replicas."""

    revisions: tuple[RevisionState, ...] = ()
    replicas: Mapping[str, tuple[ReplicaState, ...]] = field(
        default_factory=dict[str, tuple[ReplicaState, ...]]
    )

    @property
    def latest(self) -> RevisionState | None:
        """The newest active revision."""
        return self.revisions[0] if self.revisions else None

    @property
    def living(self) -> list[ReplicaState]:
        """All replicas that were not ended."""
        return [one for found in self.replicas.values() for one in found if not _ended(one)]

    @property
    def running(self) -> list[ReplicaState]:
        """The living replicas whose container has started."""
        return [one for one in self.living if any(c.state == "Running" for c in one.containers)]

    def of_latest(self) -> list[ReplicaState]:
        """The replicas of the newest revision that were not ended."""
        found = self.replicas.get(self.latest.name, ()) if self.latest else ()
        return [one for one in found if not _ended(one)]


class AppPoller:
    """Looks at one app, each of which counts for ``interval`` seconds.

    A look costs one request, and one more for each active revision.
    """

    def __init__(self, app: App, interval: float = 5.0) -> None:
        self._app = app
        self._interval = interval
        self._answers = LastAnswer()
        self._look = AppSnapshot()
        self._at = float("-inf")

    def look(self, *, fresh: bool = False) -> AppSnapshot:
        """Return the last look, or with ``fresh`` or where that is old a new one."""
        if fresh or time.monotonic() - self._at >= self._interval:
            self._look = self._answers.ask("look", self._new)
            self._at = time.monotonic()
        return self._look

    def forget(self) -> None:
        """Look anew next time: something was changed."""
        self._at = float("-inf")

    def _new(self) -> AppSnapshot:
        active = tuple(one for one in self._app.revisions() if one.active)
        return AppSnapshot(active, {one.name: tuple(self._app.replicas(one.name)) for one in active})


def _ended(replica: ReplicaState) -> bool:
    states = {container.state for container in replica.containers}
    return states == {"Terminated"} and replica.state != "Running"
