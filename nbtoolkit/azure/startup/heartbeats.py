"""What the replicas say of themselves on the share."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from nbtoolkit.azure.container_apps.stale_cache import LastAnswer
from nbtoolkit.errors import NotInStore
from nbtoolkit.filestore import FileStore
from nbtoolkit.serving import share_layout as share
from nbtoolkit.serving.share_layout import Heartbeat

FRESH = 30.0
"""Seconds for which a heartbeat is believed without asking Azure; one is written every five."""
_FORGOTTEN = 3600.0
_GOING = ("draining", "stopped")


class Heartbeats:
    """Read the heartbeats on a share; a read that fails now and then is borne."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._answers = LastAnswer()

    def of(self, replica: str) -> Heartbeat | None:
        """Return what a replica last said, None where nothing, or nothing readable. One request."""
        return self._answers.ask(replica, lambda: self._read(replica))

    def all_ready(self) -> tuple[str, ...]:
        """Return who serves by fresh word of all that gave one; none where one of them says otherwise.

        Clocks that differ by more than half a minute make every word old: then Azure is asked.
        """
        fresh = [beat for beat in self._every() if abs(_age(beat)) < FRESH and beat.phase not in _GOING]
        if not fresh or any(beat.phase != "ready" for beat in fresh):
            return ()
        return tuple(sorted(beat.replica for beat in fresh))

    def sweep(self, living: set[str]) -> None:
        """Delete what replicas left that are long gone."""
        for beat in self._every():
            if beat.replica not in living and _age(beat) > _FORGOTTEN:
                self._store.delete(share.heartbeat_path(beat.replica))

    def _every(self) -> list[Heartbeat]:
        names = [entry.name for entry in self._store.list(share.REPLICAS) if not entry.is_folder]
        replicas = [name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != "."]
        found = [self.of(replica) for replica in replicas]
        return [
            beat for beat, replica in zip(found, replicas, strict=True) if beat and beat.replica == replica
        ]

    def _read(self, replica: str) -> Heartbeat | None:
        try:
            return Heartbeat.model_validate_json(self._store.read(share.heartbeat_path(replica)))
        except (NotInStore, ValidationError):
            return None


def is_going(beat: Heartbeat | None) -> bool:
    """Tell whether a replica is about to end, so that it takes no more requests."""
    return beat is not None and beat.phase in _GOING


def _age(beat: Heartbeat) -> float:
    at = beat.at if beat.at.tzinfo else beat.at.replace(tzinfo=UTC)
    return (datetime.now(UTC) - at).total_seconds()
