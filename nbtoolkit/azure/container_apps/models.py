"""What Azure says of an app, its environment, revisions and replicas, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class AppState:
    """A container app; ``running_status`` is such as ``Running`` or ``Stopped``.

    ``template`` is as Azure gives it; environment variables in it may hold what a user typed there, so it is
    not shown.
    """

    id: str
    name: str
    location: str
    provisioning_state: str
    running_status: str
    environment_id: str
    workload_profile: str | None
    latest_revision: str | None
    latest_ready_revision: str | None
    host: str | None
    single_mode: bool
    min_replicas: int
    max_replicas: int
    template: Json = field(repr=False)
    event_stream: str | None = None
    """Where Azure tells live what it does with the app."""

    @classmethod
    def of(cls, app: Json) -> AppState:
        """Read what ARM answered."""
        rest = _properties(app)
        configuration, template = rest.get("configuration") or {}, rest.get("template") or {}
        scale = template.get("scale") or {}
        return cls(
            id=app["id"],
            name=app["name"],
            location=app.get("location") or "",
            provisioning_state=rest.get("provisioningState") or "",
            running_status=rest.get("runningStatus") or "",
            environment_id=rest.get("environmentId") or rest.get("managedEnvironmentId") or "",
            workload_profile=rest.get("workloadProfileName"),
            latest_revision=rest.get("latestRevisionName"),
            latest_ready_revision=rest.get("latestReadyRevisionName"),
            host=(configuration.get("ingress") or {}).get("fqdn"),
            single_mode=str(configuration.get("activeRevisionsMode") or "single").lower() == "single",
            min_replicas=scale.get("minReplicas") or 0,
            max_replicas=scale.get("maxReplicas") or 10,  # Azure's default
            template=template,
            event_stream=rest.get("eventStreamEndpoint"),
        )

    @property
    def stopped(self) -> bool:
        """Whether the app was stopped, so that no request wakes it."""
        return self.running_status.lower() == "stopped"

    @property
    def memory(self) -> float | None:
        """The GiB of memory that the first container may use, None where that is not told."""
        containers = self.template.get("containers") or [{}]
        found = str((containers[0].get("resources") or {}).get("memory") or "")
        return float(found[:-2]) if found.endswith("Gi") else None

    @property
    def environment_variables(self) -> dict[str, str | None]:
        """The first container's variables; None where the value is a secret."""
        containers = self.template.get("containers") or [{}]
        return {one["name"]: one.get("value") for one in containers[0].get("env") or []}


@dataclass(frozen=True)
class EnvironmentState:
    """A Container Apps environment.

    ``profiles`` maps a workload profile's name to its type, ``machines`` to how many it may have at most:
    serverless ones name no such number.
    """

    id: str
    name: str
    location: str
    provisioning_state: str
    default_domain: str | None
    profiles: Mapping[str, str]
    machines: Mapping[str, int]
    log_workspace: str | None
    """Customer id of the Log Analytics workspace, None where logs go elsewhere."""

    @classmethod
    def of(cls, environment: Json) -> EnvironmentState:
        """Read what ARM answered."""
        rest = _properties(environment)
        logs = (rest.get("appLogsConfiguration") or {}).get("logAnalyticsConfiguration") or {}
        profiles = rest.get("workloadProfiles") or []
        return cls(
            id=environment["id"],
            name=environment["name"],
            location=environment.get("location") or "",
            provisioning_state=rest.get("provisioningState") or "",
            default_domain=rest.get("defaultDomain"),
            profiles={one["name"]: one["workloadProfileType"] for one in profiles},
            machines={one["name"]: one["maximumCount"] for one in profiles if one.get("maximumCount")},
            log_workspace=logs.get("customerId"),
        )


@dataclass(frozen=True)
class RevisionState:
    """One revision; ``running_state`` is such as ``Running``, ``Processing``, ``Degraded``, ``Failed``."""

    name: str
    active: bool
    created: datetime
    replicas: int
    health_state: str
    provisioning_state: str
    running_state: str
    error: str | None = None

    @classmethod
    def of(cls, revision: Json) -> RevisionState:
        """Read what ARM answered."""
        rest = _properties(revision)
        return cls(
            name=revision["name"],
            active=bool(rest.get("active")),
            created=_time(rest.get("createdTime")),
            replicas=rest.get("replicas") or 0,
            health_state=rest.get("healthState") or "None",
            provisioning_state=rest.get("provisioningState") or "",
            running_state=rest.get("runningState") or "Unknown",
            error=rest.get("provisioningError") or rest.get("runningStateDetails"),
        )


@dataclass(frozen=True)
class ContainerState:
    """One container of a replica; ``state`` is ``Running``, ``Waiting`` or ``Terminated``."""

    name: str
    state: str
    details: str
    ready: bool
    started: bool
    restarts: int
    log_stream: str | None = None


@dataclass(frozen=True)
class ReplicaState:
    """One replica of a revision; ``details`` is Azure's reason where it does not run."""

    name: str
    created: datetime
    state: str
    details: str
    containers: tuple[ContainerState, ...] = ()

    @classmethod
    def of(cls, replica: Json) -> ReplicaState:
        """Read what ARM answered."""
        rest = _properties(replica)
        return cls(
            name=replica["name"],
            created=_time(rest.get("createdTime")),
            state=rest.get("runningState") or "Unknown",
            details=rest.get("runningStateDetails") or "",
            containers=tuple(_containers(rest.get("containers") or [])),
        )

    @property
    def ready(self) -> bool:
        """Whether the ingress may send it requests."""
        return bool(self.containers) and all(container.ready for container in self.containers)

    @property
    def restarts(self) -> int:
        """How often its containers ended and were started again."""
        return sum(container.restarts for container in self.containers)


def _properties(resource: Json) -> Json:
    return resource.get("properties") or {}


def _containers(found: list[Json]) -> Iterator[ContainerState]:
    for one in found:
        yield ContainerState(
            name=one.get("name") or "",
            state=one.get("runningState") or "Unknown",
            details=one.get("runningStateDetails") or "",
            ready=bool(one.get("ready")),
            started=bool(one.get("started")),
            restarts=one.get("restartCount") or 0,
            log_stream=one.get("logStreamEndpoint"),
        )


def _time(text: str | None) -> datetime:
    """Return a time that Azure gives, with its zone; the beginning of time where it gives none."""
    if not text:
        return datetime.min.replace(tzinfo=UTC)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
