"""Read the heartbeats that replicas write on the share."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import ValidationError

from nbtoolkit.azure.container_apps.replica_poller import StaleCache
from nbtoolkit.errors import NotInStore
from nbtoolkit.filestore import FileStore
from nbtoolkit.serving import share_layout as share
from nbtoolkit.serving.share_layout import Heartbeat

FRESH_SECONDS = 30.0
"""Age up to which a heartbeat counts without a request to ARM; one is written every five seconds."""
_DELETE_AFTER = 3600.0
_ENDING = ("draining", "stopped")


class Heartbeats:
    """The heartbeats on a share; a read that fails with a transient error returns the last heartbeat."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._cache = StaleCache()

    def read(self, replica: str) -> Heartbeat | None:
        """Return a replica's heartbeat, None without a readable one. One request."""
        return self._cache.get(replica, lambda: self._read(replica))

    def ready_replicas(self) -> tuple[str, ...]:
        """Return the replicas with a fresh heartbeat if all of these are ready; else none.

        Clocks that differ by more than :data:`FRESH_SECONDS` make every heartbeat old; ARM is used then.
        """
        fresh = [beat for beat in self._read_all() if abs(age_of(beat)) < FRESH_SECONDS]
        serving = [beat for beat in fresh if not is_ending(beat)]
        if any(beat.phase != "ready" for beat in serving):
            return ()
        return tuple(sorted(beat.replica for beat in serving))

    def delete_stale(self, live: set[str]) -> None:
        """Delete old heartbeats of replicas that are not live."""
        for beat in self._read_all():
            if beat.replica not in live and age_of(beat) > _DELETE_AFTER:
                self._store.delete(share.heartbeat_path(beat.replica))

    def _read_all(self) -> list[Heartbeat]:
        names = [entry.name for entry in self._store.list(share.REPLICAS) if not entry.is_folder]
        replicas = [name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != "."]
        found = [(self.read(replica), replica) for replica in replicas]
        return [beat for beat, replica in found if beat and beat.replica == replica]

    def _read(self, replica: str) -> Heartbeat | None:
        try:
            return Heartbeat.model_validate_json(self._store.read(share.heartbeat_path(replica)))
        except (NotInStore, ValidationError):
            return None


def is_ending(beat: Heartbeat | None) -> bool:
    """Return whether a replica is about to end and takes no more requests."""
    return beat is not None and beat.phase in _ENDING


def age_of(beat: Heartbeat) -> float:
    """Return the seconds since a heartbeat was written, by this machine's clock."""
    at = beat.at if beat.at.tzinfo else beat.at.replace(tzinfo=UTC)
    return (datetime.now(UTC) - at).total_seconds()
