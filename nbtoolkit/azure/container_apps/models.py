"""Container apps and their environments as values, parsed from the JSON of Azure Resource Manager."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Json = Mapping[str, Any]

TEMPLATE_VARIABLE_PREFIX = "NBTOOLKIT_"
"""Environment variables with this prefix are set by nbtoolkit's template."""
_INGRESS_OPTIONS = ("clientCertificateMode", "corsPolicy", "additionalPortMappings")


@dataclass(frozen=True)
class AppState:
    """A container app; ``body`` is Azure's JSON with every field, also those that have no property here.

    A missing field has Azure's default. ``repr`` does not show the body: its environment variables may hold
    what a user typed there.
    """

    body: Json = field(repr=False)

    def __repr__(self) -> str:
        return f"AppState({self.name!r}, running_status={self.running_status!r})"

    @property
    def name(self) -> str:
        """The app's name."""
        return str(self.body.get("name") or "")

    @property
    def tags(self) -> dict[str, str]:
        """The app's tags."""
        return dict(self.body.get("tags") or {})

    @property
    def provisioning_state(self) -> str:
        """The state of the last change, such as ``Succeeded`` or ``Failed``."""
        return self._properties.get("provisioningState") or ""

    @property
    def running_status(self) -> str:
        """``Running``, ``Stopped`` or a state between these."""
        return self._properties.get("runningStatus") or ""

    @property
    def stopped(self) -> bool:
        """Whether the app was stopped: no request starts a replica."""
        return self.running_status.lower() == "stopped"

    @property
    def environment_id(self) -> str:
        """The resource id of the app's environment."""
        return self._properties.get("environmentId") or self._properties.get("managedEnvironmentId") or ""

    @property
    def workload_profile(self) -> str:
        """The name of the app's workload profile; empty for Consumption."""
        return self._properties.get("workloadProfileName") or ""

    @property
    def latest_revision(self) -> str | None:
        """The name of the newest revision."""
        return self._properties.get("latestRevisionName")

    @property
    def latest_ready_revision(self) -> str | None:
        """The name of the newest revision that became ready."""
        return self._properties.get("latestReadyRevisionName")

    @property
    def event_stream(self) -> str | None:
        """The URL of the stream of system events."""
        return self._properties.get("eventStreamEndpoint")

    @property
    def host(self) -> str | None:
        """The public host name; None without ingress."""
        return self.ingress.get("fqdn") or None

    @cached_property
    def configuration(self) -> Json:
        """The part of the body that all revisions share: ingress, secrets, registries."""
        return self._properties.get("configuration") or {}

    @cached_property
    def ingress(self) -> Json:
        """The ingress configuration; empty if the ingress is off."""
        return self.configuration.get("ingress") or {}

    @cached_property
    def template(self) -> Json:
        """The part of the body that makes a revision: containers, scale, volumes."""
        return self._properties.get("template") or {}

    @property
    def containers(self) -> list[Json]:
        """The containers of the template."""
        return list(self.template.get("containers") or ())

    @property
    def volumes(self) -> list[Json]:
        """The volumes of the template."""
        return list(self.template.get("volumes") or ())

    @property
    def scale_rules(self) -> list[Json]:
        """The scale rules of the template."""
        return list(self._scale.get("rules") or ())

    @property
    def image(self) -> str:
        """The image of the first container."""
        return str(self.first_container.get("image") or "")

    @property
    def memory(self) -> float | None:
        """The memory limit of the first container in GiB; None if the template has none."""
        found = str((self.first_container.get("resources") or {}).get("memory") or "")
        return float(found[:-2]) if found.endswith("Gi") else None

    @property
    def environment_variables(self) -> dict[str, str | None]:
        """The variables of the first container; None as a value stands for a secret."""
        return {one["name"]: one.get("value") for one in self.first_container.get("env") or ()}

    @property
    def user_variables(self) -> dict[str, str]:
        """The plain variables of the first container that nbtoolkit's template does not set."""
        return {
            one["name"]: str(one.get("value") or "")
            for one in self.first_container.get("env") or ()
            if not one.get("secretRef") and not one["name"].startswith(TEMPLATE_VARIABLE_PREFIX)
        }

    @property
    def secret_names(self) -> list[str]:
        """The names of the app's secrets."""
        return [one["name"] for one in self.configuration.get("secrets") or ()]

    @property
    def custom_domains(self) -> list[dict[str, str]]:
        """The custom domains, in the form of the template's parameter."""
        return [
            {key: one[key] for key in ("name", "bindingType", "certificateId") if one.get(key)}
            for one in self.ingress.get("customDomains") or ()
        ]

    @property
    def allowed_ip_ranges(self) -> list[str]:
        """The address ranges with access; if empty, all that are not denied have access."""
        return self._ip_ranges("Allow")

    @property
    def denied_ip_ranges(self) -> list[str]:
        """The address ranges without access."""
        return self._ip_ranges("Deny")

    @property
    def ingress_options(self) -> dict[str, Any]:
        """Further ingress settings, in the form of the template's parameter; {} if all are defaults."""
        found = {key: self.ingress.get(key) for key in _INGRESS_OPTIONS}
        found["clientCertificateMode"] = str(found["clientCertificateMode"] or "").lower()
        if self.ingress.get("external") is False:
            found["external"] = False  # an internal app stays internal
        return {key: _without_nulls(value) for key, value in found.items() if value not in (None, "", [], {})}

    @property
    def max_inactive_revisions(self) -> int | None:
        """The number of inactive revisions that Azure keeps; None for Azure's default."""
        kept = self.configuration.get("maxInactiveRevisions")
        return None if kept is None else int(kept)

    @property
    def registry(self) -> Json:
        """The registry of the image; {} if it needs no sign-in."""
        registries = self.configuration.get("registries") or [{}]
        return {key: value for key, value in registries[0].items() if value}

    @property
    def min_replicas(self) -> int:
        """The minimum number of replicas."""
        return int(self._scale.get("minReplicas") or 0)

    @property
    def max_replicas(self) -> int:
        """The maximum number of replicas."""
        return int(self._scale.get("maxReplicas") or 10)

    @property
    def scale(self) -> dict[str, int]:
        """The scale settings by the names of :class:`ProvisionSettings`."""
        metadata: list[Json] = [(rule.get("http") or {}).get("metadata") or {} for rule in self.scale_rules]
        requests = next((one["concurrentRequests"] for one in metadata if "concurrentRequests" in one), None)
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "cooldown": int(self._scale.get("cooldownPeriod") or 300),
            "concurrent_requests": int(requests or 10),
        }

    @property
    def termination_grace(self) -> int:
        """The seconds that a replica has for open requests when it ends."""
        return int(self.template.get("terminationGracePeriodSeconds") or 30)

    @property
    def first_container(self) -> Json:
        """The first container; {} without any."""
        return next(iter(self.containers), {})

    @property
    def _properties(self) -> Json:
        return self.body.get("properties") or {}

    @property
    def _scale(self) -> Json:
        return self.template.get("scale") or {}

    def _ip_ranges(self, action: str) -> list[str]:
        rules: list[Json] = self.ingress.get("ipSecurityRestrictions") or []
        return [str(one["ipAddressRange"]) for one in rules if one.get("action") == action]


@dataclass(frozen=True)
class EnvironmentState:
    """A Container Apps environment; ``body`` is Azure's JSON with every field."""

    body: Json = field(repr=False)

    @property
    def name(self) -> str:
        """The environment's name."""
        return str(self.body.get("name") or "")

    @property
    def location(self) -> str:
        """The region."""
        return self.body.get("location") or ""

    @property
    def provisioning_state(self) -> str:
        """The state of the last change, such as ``Succeeded`` or ``Failed``."""
        return self.properties.get("provisioningState") or ""

    @property
    def profiles(self) -> dict[str, str]:
        """Workload profile name → type."""
        return {one["name"]: one["workloadProfileType"] for one in self._profiles}

    @property
    def machine_limits(self) -> dict[str, int]:
        """Workload profile name → maximum number of machines; serverless profiles have none."""
        return {one["name"]: one["maximumCount"] for one in self._profiles if one.get("maximumCount")}

    @property
    def log_workspace(self) -> str | None:
        """The customer id of the Log Analytics workspace; None if logs go elsewhere."""
        logs: Json = self.properties.get("appLogsConfiguration") or {}
        return (logs.get("logAnalyticsConfiguration") or {}).get("customerId")

    @property
    def network(self) -> Json:
        """The virtual network configuration; {} without one."""
        return self.properties.get("vnetConfiguration") or {}

    @property
    def properties(self) -> Json:
        """The properties of the body."""
        return self.body.get("properties") or {}

    @property
    def _profiles(self) -> list[Json]:
        return list(self.properties.get("workloadProfiles") or ())


def secret_name(variable: str) -> str:
    """Return the name of the secret that holds an environment variable's value."""
    return variable.lower().replace("_", "-")


def variable_name(secret: str) -> str:
    """Return the environment variable that holds a secret's value in the container."""
    return secret.upper().replace("-", "_")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value
