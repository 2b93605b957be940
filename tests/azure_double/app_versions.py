"""Differences of Microsoft.App's API versions: previews have more properties than stable versions."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .http import Refused, Response

SUPPORTED = (
    "2022-03-01, 2022-06-01-preview, 2022-10-01, 2022-11-01-preview, 2023-04-01-preview, 2023-05-01, "
    "2023-05-02-preview, 2023-08-01-preview, 2023-11-02-preview, 2024-02-02-preview, 2024-03-01, "
    "2024-08-02-preview, 2024-10-02-preview, 2025-01-01, 2025-02-02-preview, 2026-01-01, 2026-07-01"
)

PREVIEW = frozenset(
    {
        "patchingMode",
        "targetLabel",
        "revisionTransitionThreshold",
        "targetPortHttpScheme",
        "imageType",
        "availabilityZones",
        "diskEncryptionConfiguration",
    }
)
"""Only in previews (recorded)."""

NOT_YET_2025 = frozenset(
    {"openTelemetryConfiguration", "appInsightsConfiguration", "publicNetworkAccess", "debugEndpoint"}
)
"""Stable since 2026."""

GONE_2026 = frozenset({"delegatedIdentities", "enableFips", "dynamicJsonColumns"})
"""Recorded until 2025; not in the types of 2026-07-01."""


def headers(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers of every answer of Microsoft.App."""
    return {"api-supported-versions": SUPPORTED, **(more or {})}


def refusal(status: int, code: str, message: str) -> Refused:
    """Return a refusal by Microsoft.App itself, without the headers of ARM's gateway."""
    error = {"error": {"code": code, "message": message}}
    return Refused(status, code, message, response=Response.of(error, status, headers()))


def shaped(body: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the body in the format of this API version."""
    if version.endswith("preview"):
        return copy.deepcopy(dict(body))
    hidden = PREVIEW | (GONE_2026 if version >= "2026" else NOT_YET_2025)
    return _without(body, hidden)


def _without(value: Any, hidden: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _without(inner, hidden) for name, inner in value.items() if name not in hidden}
    if isinstance(value, list):
        return [_without(inner, hidden) for inner in value]
    return value


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, all else replaces."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def set_fields(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without the fields that are null."""
    return {name: inner for name, inner in value.items() if inner is not None}


def system_data(old: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    """Return `systemData`: who created the resource and who changed it last."""
    created = (old or {}).get("systemData") or {
        "createdBy": "test@example.com",
        "createdByType": "User",
        "createdAt": now,
    }
    kept = {name: value for name, value in created.items() if name.startswith("created")}
    return {**kept, "lastModifiedBy": "test@example.com", "lastModifiedByType": "User", "lastModifiedAt": now}
