"""One container app as the platform runs it: revisions, which one serves, how many replicas it has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .app_versions import refusal
from .resource_ids import ResourceId
from .revisions import Revision, random_suffix

if TYPE_CHECKING:
    from .app_platform import Platform
    from .replicas import Replica


class HostedApp:
    """The running side of an app; its ARM body is `body`, and only `container_apps.py` writes that."""

    def __init__(self, platform: Platform, id: ResourceId, environment: dict[str, Any]) -> None:
        self.platform = platform
        self.id = id
        self.name = id.name
        self.arm_id = f"{id.group_id}/providers/Microsoft.App/containerApps/{id.name}"
        self.stream_path = f"{id.group_id}/containerApps/{id.name}"
        self.environment_id: str = environment["id"]
        self.domain: str = environment["properties"]["defaultDomain"]
        self.region: str = self.domain.split(".")[1]
        self.body: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        """The last PUT or merged PATCH, as it came."""
        self.secrets: dict[str, str] = {}
        self.revisions: list[Revision] = []
        self.serving: Revision | None = None
        self.stopped = False
        self.deleted = False
        self.busy = False
        """An operation changes it: others are refused."""
        self.pending = 0
        """Requests in the ingress."""
        self.last_active = time.monotonic()
        self._woken = float("-inf")

    @property
    def configuration(self) -> dict[str, Any]:
        return self.body["properties"]["configuration"]

    @property
    def ingress(self) -> dict[str, Any] | None:
        return self.configuration.get("ingress")

    @property
    def target_port(self) -> int | None:
        return (self.ingress or {}).get("targetPort")

    @property
    def single(self) -> bool:
        return str(self.configuration.get("activeRevisionsMode") or "Single").lower() == "single"

    @property
    def latest(self) -> Revision | None:
        return self.revisions[-1] if self.revisions else None

    @property
    def host(self) -> str:
        return f"{self.name}.{self.domain}"

    def refuse_while_busy(self) -> None:
        """Raise the 409 of a change during another one."""
        if self.busy:
            raise refusal(
                409,
                "ContainerAppLockConflict",
                f"Cannot modify container App '{self.name}' because another modification is in progress. "
                "Please retry the operation.",
            )

    def revision(self, name: str) -> Revision:
        """The revision of this name, or ARM's 404."""
        for revision in self.revisions:
            if revision.name.lower() == name.lower():
                return revision
        raise refusal(404, "ContainerAppRevisionNotFound", f"Container App revision '{name}' was not found.")

    def living(self) -> list[Replica]:
        """Return all replicas that are not ending."""
        return [replica for revision in self.revisions for replica in revision.living()]

    def replicas(self) -> list[Replica]:
        """Return all replicas that have not ended, including those that are ending."""
        return [replica for revision in self.revisions for replica in revision.replicas if not replica.gone]

    def storages(self) -> set[str]:
        """Environment storages that its templates name."""
        templates = [
            self.body["properties"]["template"],
            *(one.template for one in self.revisions if one.active),
        ]
        return {
            volume.get("storageName", "") for template in templates for volume in template["volumes"] or []
        }

    def needs_revision(self, template: dict[str, Any]) -> bool:
        """Return whether an update creates a revision; refuse a suffix that is in use."""
        latest = self.latest
        suffix = template.get("revisionSuffix")
        if latest is None:
            return True
        same = _without_suffix(template) == _without_suffix(latest.template)
        if same and suffix in (None, "", latest.suffix):
            return False
        if suffix and any(revision.suffix == suffix for revision in self.revisions):
            raise refusal(
                400,
                "InvalidParameterValueInContainerTemplate",
                "The following field(s) are either invalid or missing. Field 'template.revisionsuffix' is "
                f'invalid with details: \'Invalid value: "{suffix}": A revision with suffix "{suffix}" '
                "already exists.';.",
            )
        return True

    def revise(self, template: dict[str, Any]) -> Revision:
        """Create a revision; in single mode, deactivate those that are not serving."""
        if self.single:
            for revision in self.revisions:
                if revision is not self.serving:
                    revision.active = False
        numbered = f"{len(self.revisions):07d}" if self.revisions else random_suffix()
        revision = Revision(self.platform, self, template.get("revisionSuffix") or numbered, template)
        self.revisions.append(revision)
        return revision

    def retry_failed(self) -> Revision | None:
        """Activate the latest revision again if it failed, and return it."""
        latest = self.latest
        if latest is None or not latest.error:
            return None
        latest.reset_activation()
        return latest

    def scale_to_zero(self) -> None:
        """Clear the request activity: with a minimum of zero the last replica ends now."""
        self.last_active = self._woken = float("-inf")

    def reconcile(self) -> None:
        """Reconcile the replicas; called periodically with the platform's lock held."""
        for revision in self.revisions:
            if self.stopped or self.deleted or not revision.active:
                revision.scale(0)
        if self.stopped or self.deleted:
            return
        candidate = self.latest
        if candidate and candidate.active and not candidate.provisioned and not candidate.error:
            self._provision(candidate)
        for revision in self.revisions:
            if revision.active and revision.provisioned:
                revision.scale(self._desired(revision))

    def _provision(self, candidate: Revision) -> None:
        """Start a revision next to the serving one; switch to it once ready, or fail it at the deadline."""
        serving_count = len(self.serving.living()) if self.serving and self.single else 0
        wanted = max(candidate.minimum, 1, min(serving_count, candidate.maximum))
        candidate.scale(wanted)
        ready = len(candidate.ready())
        if ready >= wanted:
            candidate.provisioned = True
            self.last_active = time.monotonic()
            self._take_over(candidate)
        elif candidate.activation_seconds() > self.platform.deadline:
            candidate.error = f"Deployment Progress Deadline Exceeded. {ready}/{wanted} replicas ready."
            candidate.scale(0)
            self.platform.event(
                self, "Warning", "RevisionActivationFailed", candidate.error, candidate.name, None
            )

    def _take_over(self, revision: Revision) -> None:
        self.serving = revision
        self.platform.event(
            self,
            "Normal",
            "RevisionReady",
            f"Successfully provisioned revision '{revision.name}'",
            revision.name,
            None,
        )
        if self.single:
            for other in self.revisions:
                if other is not revision and other.active:
                    other.active = False
                    self.platform.event(
                        self,
                        "Normal",
                        "RevisionDeactivating",
                        f"Deactivating old revision '{other.name}'",
                        other.name,
                        None,
                    )

    def _desired(self, revision: Revision) -> int:
        if revision.minimum:
            return revision.minimum
        now = time.monotonic()
        living = revision.living()
        if self.pending:
            self._woken = now if not living else self._woken
            self.last_active = now
        elif living and not revision.ready() and now - self._woken < self.platform.limits.start:
            self.last_active = now
        idle = now - self.last_active
        return (
            1
            if idle < max(self.platform.double.clock.real(revision.cooldown), self.platform.limits.cooldown)
            else 0
        )


def _without_suffix(template: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in template.items() if name != "revisionSuffix"}
