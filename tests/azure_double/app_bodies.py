"""The body of a container app: desired state with ARM's defaults, and the bodies of responses."""

from __future__ import annotations

import copy
import ipaddress
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .app_versions import set_fields, system_data
from .environment_bodies import VERIFICATION

if TYPE_CHECKING:
    from .hosted_app import HostedApp
    from .resource_kind import Call

TYPE = "Microsoft.App/containerApps"
INGRESS: dict[str, Any] = {
    "fqdn": None,
    "external": False,
    "targetPort": None,
    "exposedPort": 0,
    "transport": "Auto",
    "traffic": None,
    "customDomains": None,
    "allowInsecure": False,
    "ipSecurityRestrictions": None,
    "corsPolicy": None,
    "clientCertificateMode": None,
    "stickySessions": None,
    "additionalPortMappings": None,
    "targetPortHttpScheme": None,
}
CONFIGURATION: dict[str, Any] = {
    "secrets": None,
    "activeRevisionsMode": "Single",
    "targetLabel": "",
    "revisionTransitionThreshold": None,
    "ingress": None,
    "registries": None,
    "identitySettings": [],
    "dapr": None,
    "runtime": None,
    "maxInactiveRevisions": 100,
    "service": None,
}
SCALE: dict[str, Any] = {
    "minReplicas": None,
    "maxReplicas": 10,
    "cooldownPeriod": 300,
    "pollingInterval": 30,
    "rules": None,
}
OUTBOUND = [
    str(ipaddress.IPv4Address(int(ipaddress.IPv4Address("20.9.115.172")) + n * 53)) for n in range(16)
]


def desired_body(call: Call, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete body for a PUT or a merged PATCH: with ARM's defaults, nothing read-only."""
    given = call.body
    properties = given.get("properties") or {}
    configuration = CONFIGURATION | set_fields(properties.get("configuration") or {})
    configuration["activeRevisionsMode"] = str(configuration["activeRevisionsMode"]).capitalize()
    configuration["secrets"] = [set_fields(secret) for secret in configuration["secrets"] or []] or None
    if configuration["ingress"]:
        configuration["ingress"] = _ingress(configuration["ingress"])
    if configuration["registries"]:
        empty = {"server": "", "username": "", "passwordSecretRef": "", "identity": ""}
        configuration["registries"] = [empty | set_fields(one) for one in configuration["registries"]]
    document: dict[str, Any] = {
        "location": environment["location"],
        "tags": given.get("tags") or None,
        "identity": _identity(given.get("identity") or {}),
        "properties": {
            "environmentId": environment["id"],
            "workloadProfileName": properties.get("workloadProfileName")
            or ("Consumption" if environment["properties"].get("workloadProfiles") else None),
            "configuration": configuration,
            "template": _template(properties.get("template") or {}),
        },
    }
    return copy.deepcopy(document)


def _ingress(given: Mapping[str, Any]) -> dict[str, Any]:
    ingress = INGRESS | set_fields(given)
    ingress["fqdn"] = None
    ingress["transport"] = str(ingress["transport"]).capitalize()
    ingress["traffic"] = [set_fields(one) for one in ingress["traffic"] or []] or [
        {"weight": 100, "latestRevision": True}
    ]
    if ingress["ipSecurityRestrictions"]:
        ingress["ipSecurityRestrictions"] = [set_fields(one) for one in ingress["ipSecurityRestrictions"]]
    return ingress


def _template(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "revisionSuffix": given.get("revisionSuffix") or "",
        "terminationGracePeriodSeconds": given.get("terminationGracePeriodSeconds"),
        "containers": [_container(one) for one in given.get("containers") or []],
        "initContainers": [_container(one) for one in given.get("initContainers") or []] or None,
        "scale": _scale(given.get("scale") or {}),
        "volumes": [set_fields(one) for one in given.get("volumes") or []] or None,
        "serviceBinds": given.get("serviceBinds") or None,
    }


def _scale(given: Mapping[str, Any]) -> dict[str, Any]:
    scale = SCALE | set_fields(given)
    scale["rules"] = [_without_nulls(rule) for rule in scale["rules"] or []] or None
    return scale


def _container(given: Mapping[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = {
        "image": given.get("image"),
        "imageType": "ContainerImage",
        "name": given.get("name"),
    }
    for name in ("command", "args"):
        if given.get(name):
            container[name] = list(given[name])
    for name in ("env", "probes", "volumeMounts"):
        if given.get(name):
            container[name] = [_without_nulls(one) for one in given[name]]
    resources = set_fields(given.get("resources") or {})
    cpu = float(resources.get("cpu") or 0.5)
    container["resources"] = {
        "cpu": int(cpu) if cpu == int(cpu) else cpu,
        "memory": resources.get("memory") or "1Gi",
        "ephemeralStorage": "1Gi" if cpu <= 0.25 else "2Gi" if cpu <= 0.5 else "4Gi" if cpu <= 1 else "8Gi",
    }
    return container


def _without_nulls(value: Any) -> Any:
    """Without nulls, at any depth."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _identity(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """An identity with the ids that Azure adds."""
    if given.get("type") in (None, "None"):
        return None
    named = given.get("userAssignedIdentities") or {}
    users = {
        id: {kind: str(uuid.uuid5(uuid.NAMESPACE_URL, id + kind)) for kind in ("principalId", "clientId")}
        for id in named
    }
    return {"type": given["type"], **({"userAssignedIdentities": users} if users else {})}


def secrets_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of the secrets, empty for those in a key vault."""
    found = document["properties"]["configuration"]["secrets"] or []
    return {one["name"]: str(one.get("value") or "") for one in found}


def get_body(app: HostedApp) -> dict[str, Any]:
    """Return the body of a GET, without the values of secrets."""
    document = copy.deepcopy(app.body)
    properties = document["properties"]
    configuration = properties["configuration"]
    latest = app.latest
    if configuration["secrets"]:
        configuration["secrets"] = [
            {name: value for name, value in one.items() if name != "value"}
            for one in configuration["secrets"]
        ]
    if configuration["ingress"]:
        inner = "" if configuration["ingress"]["external"] else "internal."
        configuration["ingress"]["fqdn"] = f"{app.name}.{inner}{app.domain}"
    body: dict[str, Any] = {
        "id": f"{app.id.group_id}/providers/Microsoft.App/containerapps/{app.name}",
        "name": app.name,
        "type": TYPE,
        "location": document["location"],
        **({"tags": document["tags"]} if document.get("tags") else {}),
        "systemData": document["systemData"],
        "properties": {
            "provisioningState": properties["provisioningState"],
            "runningStatus": _running(app),
            "managedEnvironmentId": properties["environmentId"],
            "environmentId": properties["environmentId"],
            "workloadProfileName": properties["workloadProfileName"],
            "patchingMode": "Automatic",
            "outboundIpAddresses": OUTBOUND,
            "latestRevisionName": latest.name if latest else "",
            "latestReadyRevisionName": app.serving.name if app.serving else "",
            "latestRevisionFqdn": latest.fqdn if latest else "",
            "customDomainVerificationId": VERIFICATION,
            "configuration": configuration,
            "template": properties["template"],
            "eventStreamEndpoint": f"https://{app.region}.azurecontainerapps.dev{app.stream_path}/eventstream",
            "delegatedIdentities": [],
        },
        "identity": document.get("identity") or {"type": "None"},
    }
    return body


def accepted_body(app: HostedApp) -> dict[str, Any]:
    """Return the body of the response to a PUT while the change is in progress."""
    body = get_body(app)
    properties = body["properties"]
    asked = app.asked.get("properties") or {}
    for name in ("runningStatus", "eventStreamEndpoint"):
        del properties[name]
    if app.latest is None:
        for name in ("latestRevisionName", "latestReadyRevisionName", "latestRevisionFqdn"):
            del properties[name]
    properties["configuration"]["targetLabel"] = properties["configuration"]["targetLabel"] or None
    if properties["configuration"]["ingress"]:
        traffic = ((asked.get("configuration") or {}).get("ingress") or {}).get("traffic")
        properties["configuration"]["ingress"] |= {"fqdn": None, "exposedPort": None}
        if not traffic:
            properties["configuration"]["ingress"]["traffic"] = None
    for container in properties["template"]["containers"]:
        container["imageType"] = "CloudBuild"
    properties["template"]["revisionSuffix"] = properties["template"]["revisionSuffix"] or None
    scale = (asked.get("template") or {}).get("scale")
    properties["template"]["scale"] = dict.fromkeys(SCALE) | scale if scale else None
    data = body["systemData"]
    body["systemData"] = {name: f"{value}Z" if name.endswith("At") else value for name, value in data.items()}
    return body


def store_body(app: HostedApp, document: dict[str, Any], now: str) -> None:
    """Store a body as the app's."""
    document["systemData"] = system_data(app.body or None, now)
    document["properties"]["provisioningState"] = "InProgress"
    app.body = document
    app.secrets = secrets_of(document)


def _running(app: HostedApp) -> str:
    if app.stopped:
        return "Stopped"
    return "Running" if app.serving or (app.latest and app.latest.error) else "Progressing"
