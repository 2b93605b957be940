"""What-if: compares the state with the template, with the false differences of Container Apps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .arm import Arm
from .http import Refused
from .regions import short
from .resource_ids import ResourceId
from .templates import Evaluated, PlannedResource
from .what_if_delta import delta

_READ_ONLY: dict[str, tuple[str, ...]] = {
    "microsoft.storage/storageaccounts": (
        "keyCreationTime",
        "privateEndpointConnections",
        "creationTime",
        "primaryEndpoints",
        "primaryLocation",
        "statusOfPrimary",
        "services",
    ),
    "microsoft.operationalinsights/workspaces": (
        "customerId",
        "createdDate",
        "modifiedDate",
        "lastSkuUpdate",
        "quotaNextResetTime",
        "dataIngestionStatus",
    ),
    "microsoft.app/managedenvironments": (
        "defaultDomain",
        "staticIp",
        "eventStreamEndpoint",
        "deploymentErrors",
    ),
    "microsoft.app/containerapps": (
        "runningStatus",
        "latestRevisionName",
        "latestReadyRevisionName",
        "latestRevisionFqdn",
        "outboundIpAddresses",
        "eventStreamEndpoint",
        "customDomainVerificationId",
    ),
}
"""Read-only properties that what-if omits, by type, apart from `provisioningState`."""
_TOP = ("kind", "location", "sku", "identity", "tags")
_NOISY = ("microsoft.app/",)
"""Namespaces whose default values what-if reports as deleted."""


def changes(arm: Arm, deployment: ResourceId, evaluated: Evaluated) -> list[dict[str, Any]]:
    """Compare each resource of a template with the state; other resources are ignored."""
    found = [_change(arm, planned) for planned in evaluated.planned]
    named = {planned.id.key for planned in evaluated.planned}
    start = f"{deployment.group_id.key}/providers/"
    for key, body in sorted(arm.resources.items()):
        type = str(body.get("type", "")).lower()
        if key.startswith(start) and key not in named and type.count("/") == 1 and "deployments" not in type:
            shown = {name: body[name] for name in ("id", "location", "name", "type") if name in body}
            found.append(
                {
                    "resourceId": body["id"],
                    "changeType": "Ignore",
                    "before": {"apiVersion": "2026-01-01", **shown},
                }
            )
    return found


def _there(arm: Arm, planned: PlannedResource) -> dict[str, Any] | None:
    """A resource as its GET shows it."""
    try:
        return arm.call_function("GET", str(planned.id), planned.version).json()
    except Refused as refused:
        if refused.status == 404:
            return None
        raise


def _change(arm: Arm, planned: PlannedResource) -> dict[str, Any]:
    old = _there(arm, planned)
    head = {
        "apiVersion": planned.version,
        "id": str(planned.id),
        "name": planned.id.name,
        "type": planned.id.type,
    }
    wanted = {**head, **{key: value for key, value in planned.body.items() if key != "tags" or value}}
    if old is None:
        return {"resourceId": str(planned.id), "changeType": "Create", "after": _sorted(wanted)}
    before = {**head, **_known(old, planned.id.type.lower())}
    noisy = planned.id.type.lower().startswith(_NOISY)
    after = wanted if noisy else _merged(before, wanted)
    if after.get("location"):
        after["location"] = short(str(after["location"]))
    differences = delta(before, after)
    return {
        "resourceId": str(planned.id),
        "changeType": "Modify" if differences else "NoChange",
        "before": _sorted(before),
        "after": _sorted(after),
        "delta": differences,
    }


def _known(body: Mapping[str, Any], type: str) -> dict[str, Any]:
    """Return a resource as what-if reports it: without read-only and empty properties."""
    hidden = {"provisioningState", *_READ_ONLY.get(type, ())}
    known = {key: body[key] for key in _TOP if body.get(key)}
    if "location" in known:
        known["location"] = short(str(known["location"]))
    if "sku" in known:
        known["sku"] = {"name": known["sku"]["name"]}
    cleaned = _cleaned(body.get("properties") or {}, hidden)
    return {**known, "properties": cleaned} if cleaned else known


def _cleaned(value: Any, hidden: set[str]) -> Any:
    if isinstance(value, Mapping):
        cleaned = {key: _cleaned(entry, hidden) for key, entry in value.items() if key not in hidden}
        return {key: entry for key, entry in cleaned.items() if entry not in (None, {}, [])}
    return [_cleaned(entry, hidden) for entry in value] if isinstance(value, list) else value


def _merged(before: Any, wanted: Any) -> Any:
    """Return the state with the template's values, for types whose defaults what-if adds."""
    if isinstance(before, Mapping) and isinstance(wanted, Mapping):
        return {**before, **{key: _merged(before.get(key), value) for key, value in wanted.items()}}
    return wanted


def _sorted(value: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(value.items()))
