"""Revisions and replicas of a container app as values, and a snapshot of all that are active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nbtoolkit.azure.container_apps.models import Json


@dataclass(frozen=True)
class RevisionState:
    """A revision; ``running_state`` is ``Running``, ``Processing``, ``Degraded``, ``Failed`` or similar."""

    name: str
    active: bool
    created: datetime
    replicas: int
    provisioning_state: str
    running_state: str
    error: str | None = None

    @classmethod
    def from_body(cls, body: Json) -> RevisionState:
        """Parse Azure's JSON."""
        properties = _properties(body)
        return cls(
            name=body["name"],
            active=bool(properties.get("active")),
            created=_parse_time(properties.get("createdTime")),
            replicas=properties.get("replicas") or 0,
            provisioning_state=properties.get("provisioningState") or "",
            running_state=properties.get("runningState") or "Unknown",
            error=properties.get("provisioningError") or properties.get("runningStateDetails"),
        )


@dataclass(frozen=True)
class ContainerState:
    """A container of a replica; ``state`` is ``Running``, ``Waiting``, ``Terminated`` or ``Unknown``."""

    state: str
    details: str
    ready: bool
    restarts: int
    log_stream: str | None = None

    @classmethod
    def from_body(cls, body: Json) -> ContainerState:
        """Parse Azure's JSON."""
        return cls(
            state=body.get("runningState") or "Unknown",
            details=body.get("runningStateDetails") or "",
            ready=bool(body.get("ready")),
            restarts=body.get("restartCount") or 0,
            log_stream=body.get("logStreamEndpoint"),
        )


@dataclass(frozen=True)
class ReplicaState:
    """A replica of a revision; ``details`` is Azure's reason if it does not run."""

    name: str
    created: datetime
    state: str
    details: str
    containers: tuple[ContainerState, ...] = ()

    @classmethod
    def from_body(cls, body: Json) -> ReplicaState:
        """Parse Azure's JSON."""
        properties = _properties(body)
        return cls(
            name=body["name"],
            created=_parse_time(properties.get("createdTime")),
            state=properties.get("runningState") or "Unknown",
            details=properties.get("runningStateDetails") or "",
            containers=tuple(map(ContainerState.from_body, properties.get("containers") or ())),
        )

    @property
    def ready(self) -> bool:
        """Whether the ingress sends requests to it."""
        return bool(self.containers) and all(container.ready for container in self.containers)

    @property
    def running(self) -> bool:
        """Whether a container of it runs."""
        return any(container.state == "Running" for container in self.containers)

    @property
    def terminated(self) -> bool:
        """Whether all its containers have ended and Azure starts none again."""
        states = {container.state for container in self.containers}
        return states == {"Terminated"} and self.state != "Running"

    @property
    def restarts(self) -> int:
        """How often its containers ended and were started again."""
        return sum(container.restarts for container in self.containers)

    @property
    def reasons(self) -> str:
        """Azure's details of the replica and its containers, without repetition."""
        details = (self.details, *(container.details for container in self.containers))
        return "; ".join(dict.fromkeys(filter(None, details)))


@dataclass(frozen=True)
class AppSnapshot:
    """The active revisions, newest first, and their replicas by revision."""

    revisions: tuple[RevisionState, ...] = ()
    replicas: Mapping[str, tuple[ReplicaState, ...]] = field(
        default_factory=dict[str, tuple[ReplicaState, ...]]
    )

    @property
    def latest(self) -> RevisionState | None:
        """The newest active revision."""
        return self.revisions[0] if self.revisions else None

    @property
    def live(self) -> list[ReplicaState]:
        """All replicas that have not terminated."""
        return [one for found in self.replicas.values() for one in found if not one.terminated]

    @property
    def running(self) -> list[ReplicaState]:
        """The live replicas with a running container."""
        return [one for one in self.live if one.running]

    @property
    def latest_replicas(self) -> list[ReplicaState]:
        """The live replicas of the newest revision."""
        found = self.replicas.get(self.latest.name, ()) if self.latest else ()
        return [one for one in found if not one.terminated]


def _properties(body: Json) -> Json:
    return body.get("properties") or {}


def _parse_time(text: str | None) -> datetime:
    """Return Azure's timestamp with a time zone; the minimum for None."""
    if not text:
        return datetime.min.replace(tzinfo=UTC)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
