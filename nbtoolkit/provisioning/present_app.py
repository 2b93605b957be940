"""An app that exists already: what a new deployment of it has to carry on, and what it could not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Body = Mapping[str, Any]
_CARRIED = ("clientCertificateMode", "corsPolicy", "additionalPortMappings")
OURS = "NBTOOLKIT_"
"""Variables with this start are the template's own."""


class PresentApp:
    """Read Azure's description of an app; a PUT of it drops whatever the template does not name."""

    def __init__(self, body: Body) -> None:
        self._body = body
        properties: Body = body.get("properties") or {}
        self._configuration: Body = properties.get("configuration") or {}
        self._ingress: Body = self._configuration.get("ingress") or {}
        self._template: Body = properties.get("template") or {}
        self._containers: list[Body] = list(self._template.get("containers") or ())
        self._container: Body = self._containers[0] if self._containers else {}
        self.profile: str = properties.get("workloadProfileName") or ""

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return dict(self._body.get("tags") or {})

    @property
    def endpoint(self) -> str | None:
        """Its host name."""
        return self._ingress.get("fqdn") or None

    @property
    def image(self) -> str:
        """The image of its container."""
        return str(self._container.get("image") or "")

    @property
    def secret_names(self) -> list[str]:
        """The names of its secrets."""
        return [one["name"] for one in self._configuration.get("secrets") or ()]

    @property
    def variables(self) -> dict[str, str]:
        """Its plain environment variables that are not the template's."""
        return {
            one["name"]: str(one.get("value") or "")
            for one in self._container.get("env") or ()
            if not one.get("secretRef") and not one["name"].startswith(OURS)
        }

    @property
    def domains(self) -> list[dict[str, str]]:
        """Its own domains, as the template takes them."""
        return [
            {key: one[key] for key in ("name", "bindingType", "certificateId") if one.get(key)}
            for one in self._ingress.get("customDomains") or ()
        ]

    @property
    def ranges(self) -> list[str]:
        """The address ranges that may reach it; none: all but those that are denied."""
        return self._ranges("Allow")

    @property
    def denied(self) -> list[str]:
        """The address ranges that may not reach it."""
        return self._ranges("Deny")

    @property
    def ingress(self) -> dict[str, Any]:
        """What else its entrance has, as the template takes it; {} where all is as Azure makes it."""
        found = {key: self._ingress.get(key) for key in _CARRIED}
        found["clientCertificateMode"] = str(found["clientCertificateMode"] or "").lower()
        if self._ingress.get("external") is False:
            found["external"] = False  # reached from within its environment only: never opened unasked
        return {key: _without_nulls(value) for key, value in found.items() if value not in (None, "", [], {})}

    @property
    def max_inactive_revisions(self) -> int | None:
        """How many former revisions it keeps; None where that is Azure's default."""
        kept = self._configuration.get("maxInactiveRevisions")
        return None if kept is None else int(kept)

    @property
    def registry(self) -> Body:
        """The registry of its image, {} where it needs no sign-in."""
        registries = self._configuration.get("registries") or [{}]
        return {key: value for key, value in registries[0].items() if value}

    @property
    def scale(self) -> dict[str, int]:
        """Replicas, cooldown and requests of its HTTP rule, by setting."""
        found: Body = self._template.get("scale") or {}
        rules: list[Body] = [(rule.get("http") or {}).get("metadata") or {} for rule in self._rules]
        requests = next((rule["concurrentRequests"] for rule in rules if "concurrentRequests" in rule), None)
        return {
            "min_replicas": int(found.get("minReplicas") or 0),
            "max_replicas": int(found.get("maxReplicas") or 10),
            "cooldown": int(found.get("cooldownPeriod") or 300),
            "concurrent_requests": int(requests or 10),
        }

    @property
    def termination_grace(self) -> int:
        """Seconds for open answers when a replica ends."""
        return int(self._template.get("terminationGracePeriodSeconds") or 30)

    @property
    def _rules(self) -> list[Body]:
        return list((self._template.get("scale") or {}).get("rules") or ())

    def _ranges(self, action: str) -> list[str]:
        rules: list[Body] = self._ingress.get("ipSecurityRestrictions") or []
        return [str(one["ipAddressRange"]) for one in rules if one.get("action") == action]

    def unkept(self, secrets: list[dict[str, Any]], registry_identity: str = "") -> list[str]:
        """Return what the app has that the template has no place for, in words."""
        found: list[str] = []
        identity: Body = self._body.get("identity") or {}
        users = {one.lower() for one in identity.get("userAssignedIdentities") or {}}
        if "SystemAssigned" in str(identity.get("type")) or users - {registry_identity.lower()}:
            found.append("a managed identity")
        if len(self._containers) > 1 or self._template.get("initContainers"):
            found.append("more than one container")
        if len(self._template.get("volumes") or ()) > 1:
            found.append("more than one volume")
        if (self._configuration.get("dapr") or {}).get("enabled"):
            found.append("Dapr")
        if len(self._configuration.get("registries") or ()) > 1:
            found.append("more than one registry")
        if str(self._configuration.get("activeRevisionsMode") or "Single").lower() != "single":
            found.append("several active revisions at once")
        if any(not one.get("latestRevision") for one in self._ingress.get("traffic") or ()):
            found.append("traffic that goes to certain revisions")
        if any(one.get("label") for one in self._ingress.get("traffic") or ()):
            found.append("labels of revisions")
        if self._template.get("serviceBinds"):
            found.append("bindings to services")
        if self._configuration.get("service"):
            found.append("a service of its own")
        foreign = [str(one.get("name")) for one in self._rules if not _is_plain_http(one)]
        if foreign or len(self._rules) > 1:
            names = foreign or [str(one.get("name")) for one in self._rules[1:]]
            found.append(f"rules of its own for scaling ({', '.join(names)})")
        vault = [one["name"] for one in secrets if one.get("keyVaultUrl")]
        if vault:
            found.append(f"secrets out of a key vault ({', '.join(vault)})")
        other = [
            one["name"]
            for one in self._container.get("env") or ()
            if one.get("secretRef") and one["name"] != variable_of(one["secretRef"])
        ]
        if other:
            found.append(f"variables named unlike their secret ({', '.join(other)})")
        return found


def _is_plain_http(rule: Body) -> bool:
    """Tell whether a rule scales by requests alone, as the template's does."""
    http: Body = rule.get("http") or {}
    kinds = {kind for kind in ("azureQueue", "custom", "tcp") if rule.get(kind)}
    return bool(http) and not kinds and not http.get("auth") and not http.get("identity")


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def variable_of(secret: str) -> str:
    """Return the environment variable under which the container sees a secret."""
    return secret.upper().replace("-", "_")
