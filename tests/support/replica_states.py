"""Replicas, heartbeats and a clock for tests of a startup on Azure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from nbtoolkit.azure.container_apps.revisions import ContainerState, ReplicaState
from nbtoolkit.serving.share_layout import Heartbeat

NOW = datetime.now(UTC)


def replica(
    state: str = "Running", details: str = "", restarts: int = 0, name: str = "a", *, ready: bool = False
) -> ReplicaState:
    """Return a replica with one container in that state."""
    container = ContainerState(state, "", ready=ready, restarts=restarts)
    return ReplicaState(name, NOW, "Running" if state == "Running" else "NotRunning", details, (container,))


def heartbeat(phase: str, name: str = "a", age: float = 0, **more: object) -> Heartbeat:
    """Return a heartbeat that was written ``age`` seconds ago."""
    found = {"replica": name, "at": datetime.now(UTC) - timedelta(seconds=age), "phase": phase, **more}
    return Heartbeat.model_validate(found)


class ManualClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
