"""Container apps and their environments as values, parsed from the JSON of Azure Resource Manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Json = Mapping[str, Any]

API_KEY_SECRET = "nbtoolkit-api-key"  # noqa: S105 - the name of a secret
"""The secret of the app that holds the endpoint's key."""
TEMPLATE_VARIABLE_PREFIX = "NBTOOLKIT_"
"""Environment variables with this prefix are set by nbtoolkit's template."""
_INGRESS_OPTIONS = ("clientCertificateMode", "corsPolicy", "additionalPortMappings")


class _Property(Generic[T]):
    """A value at ``path`` in Azure's JSON; ``default`` if it is missing or empty."""

    def __init__(self, default: T, *path: str) -> None:
        self._default = default
        self._path = path

    def __get__(self, state: Any, owner: type) -> T:
        value: Any = state.body
        for key in self._path:
            value = value.get(key) or {}
        return value or self._default


@dataclass(frozen=True)
class AppState:
    """A container app; ``body`` is Azure's JSON with every field, also those that have no property here.

    A missing field has Azure's default. ``repr`` does not show the body: its environment variables may hold
    what a user typed there.
    """

    body: Json = field(repr=False)

    name = _Property("", "name")
    """The app's name."""
    tags = _Property[Mapping[str, str]]({}, "tags")
    """The app's tags."""
    provisioning_state = _Property("", "properties", "provisioningState")
    """The state of the last change, such as ``Succeeded`` or ``Failed``."""
    running_status = _Property("", "properties", "runningStatus")
    """``Running``, ``Stopped`` or a state between these."""
    workload_profile = _Property("", "properties", "workloadProfileName")
    """The name of the app's workload profile; empty for Consumption."""
    latest_revision = _Property[str | None](None, "properties", "latestRevisionName")
    """The name of the newest revision."""
    latest_ready_revision = _Property[str | None](None, "properties", "latestReadyRevisionName")
    """The name of the newest revision that became ready."""
    event_stream = _Property[str | None](None, "properties", "eventStreamEndpoint")
    """The URL of the stream of system events."""
    configuration = _Property[Json]({}, "properties", "configuration")
    """The part of the body that all revisions share: ingress, secrets, registries."""
    ingress = _Property[Json]({}, "properties", "configuration", "ingress")
    """The ingress configuration; empty if the ingress is off."""
    host = _Property[str | None](None, "properties", "configuration", "ingress", "fqdn")
    """The public host name; None without ingress."""
    template = _Property[Json]({}, "properties", "template")
    """The part of the body that makes a revision: containers, scale, volumes."""
    containers = _Property[Sequence[Json]]((), "properties", "template", "containers")
    """The containers of the template."""
    volumes = _Property[Sequence[Json]]((), "properties", "template", "volumes")
    """The volumes of the template."""
    termination_grace = _Property(30, "properties", "template", "terminationGracePeriodSeconds")
    """The seconds that a replica has for open requests when it ends."""
    min_replicas = _Property(0, "properties", "template", "scale", "minReplicas")
    """The minimum number of replicas."""
    max_replicas = _Property(10, "properties", "template", "scale", "maxReplicas")
    """The maximum number of replicas."""
    scale_rules = _Property[Sequence[Json]]((), "properties", "template", "scale", "rules")
    """The scale rules of the template."""
    _cooldown = _Property(300, "properties", "template", "scale", "cooldownPeriod")

    def __repr__(self) -> str:
        return f"AppState({self.name!r}, running_status={self.running_status!r})"

    @property
    def stopped(self) -> bool:
        """Whether the app was stopped: no request starts a replica."""
        return self.running_status.lower() == "stopped"

    @property
    def environment_id(self) -> str:
        """The resource id of the app's environment."""
        properties: Json = self.body.get("properties") or {}
        return properties.get("environmentId") or properties.get("managedEnvironmentId") or ""

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
    def scale(self) -> dict[str, int]:
        """The scale settings by the names of :class:`ProvisionSettings`."""
        metadata: list[Json] = [(rule.get("http") or {}).get("metadata") or {} for rule in self.scale_rules]
        requests = next((one["concurrentRequests"] for one in metadata if "concurrentRequests" in one), None)
        return {
            "min_replicas": self.min_replicas,
            "max_replicas": self.max_replicas,
            "cooldown": self._cooldown,
            "concurrent_requests": int(requests or 10),
        }

    @property
    def first_container(self) -> Json:
        """The first container; {} without any."""
        return next(iter(self.containers), {})

    def _ip_ranges(self, action: str) -> list[str]:
        rules: list[Json] = self.ingress.get("ipSecurityRestrictions") or []
        return [str(one["ipAddressRange"]) for one in rules if one.get("action") == action]


@dataclass(frozen=True)
class EnvironmentState:
    """A Container Apps environment; ``body`` is Azure's JSON with every field."""

    body: Json = field(repr=False)

    name = _Property("", "name")
    """The environment's name."""
    location = _Property("", "location")
    """The region."""
    provisioning_state = _Property("", "properties", "provisioningState")
    """The state of the last change, such as ``Succeeded`` or ``Failed``."""
    log_workspace = _Property[str | None](
        None, "properties", "appLogsConfiguration", "logAnalyticsConfiguration", "customerId"
    )
    """The customer id of the Log Analytics workspace; None if logs go elsewhere."""
    network = _Property[Json]({}, "properties", "vnetConfiguration")
    """The virtual network configuration; {} without one."""
    _profiles = _Property[Sequence[Json]]((), "properties", "workloadProfiles")

    @property
    def profiles(self) -> dict[str, str]:
        """Workload profile name → type."""
        return {one["name"]: one["workloadProfileType"] for one in self._profiles}

    @property
    def machine_limits(self) -> dict[str, int]:
        """Workload profile name → maximum number of machines; serverless profiles have none."""
        return {one["name"]: one["maximumCount"] for one in self._profiles if one.get("maximumCount")}


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
