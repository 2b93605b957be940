"""Azure's prediction of what a deployment would change, without the differences that are noise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import indent
from typing import Any

from nbtoolkit.azure.resource_id import DEPLOYMENT, kind_of, title_of

_VERBS = {
    "Create": "create",
    "Modify": "change",
    "Delete": "delete",
    "Deploy": "change",
    "NoChange": "keep",
    "NoEffect": "keep",
    "Ignore": "keep",
    "Unsupported": "unknown",
}
_ORDER = ("delete", "create", "change", "unknown", "keep")
_MAX_VALUE = 80
"""Characters of a value that the table shows."""


_SERVICE = "/microsoft.app/"
"""The service whose default properties what-if predicts to be removed (arm-template-whatif#331)."""

_READ_ONLY = re.compile(
    r"""properties\.(
      runningStatus | eventStreamEndpoint | latest\w+ | outboundIpAddresses | environmentId
    | infrastructureResourceGroup | primaryEndpoints | statusOf\w+ | creationTime | provisioningState
    | kedaConfiguration | daprConfiguration | customDomainConfiguration\.customDomainVerificationId
    | appLogsConfiguration\.logAnalyticsConfiguration\.sharedKey
    | configuration\.ingress\.fqdn
    | template\.revisionSuffix
    | template\.containers\.\d+\.(imageType|resources\.(ephemeralStorage|gpu))
    )(\.|$)""",
    re.VERBOSE | re.IGNORECASE,
)
"""Properties that only Azure writes."""

_SECRET = re.compile(r"properties\.configuration\.secrets\.\d+\.value$", re.IGNORECASE)
"""The request has placeholders and the response no secrets; changes of secrets are reported separately."""

_DEFAULTS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (r"patchingMode", ("Automatic",)),
    (r"publicNetworkAccess", ("Enabled",)),
    (r"zoneRedundant", (False,)),
    (r"peerAuthentication(\.mtls(\.enabled)?)?", (False, {"enabled": False}, {"mtls": {"enabled": False}})),
    (
        r"peerTrafficConfiguration(\.encryption(\.enabled)?)?",
        (False, {"enabled": False}, {"encryption": {"enabled": False}}),
    ),
    (r"workloadProfiles\.\d+\.enableFips", (False,)),
    (r"appLogsConfiguration\.logAnalyticsConfiguration\.dynamicJsonColumns", (False,)),
    (r"configuration\.maxInactiveRevisions", (100,)),
    (r"configuration\.targetLabel", ("",)),
    (r"configuration\.dapr(\.enabled)?", (False, {"enabled": False})),
    (r"configuration\.ingress\.exposedPort", (0,)),
    (r"configuration\.ingress\.clientCertificateMode", ("Ignore",)),
    (r"configuration\.ingress\.targetPortHttpScheme", ("auto",)),
    (r"configuration\.ingress\.traffic", ([{"latestRevision": True, "weight": 100}],)),
    (r"template\.scale\.pollingInterval", (30,)),
    (r"template\.containers\.\d+\.probes\.\d+\.initialDelaySeconds", (0,)),
    (r"template\.containers\.\d+\.probes\.\d+\.(timeoutSeconds|successThreshold)", (1,)),
    (r"template\.containers\.\d+\.probes\.\d+\.failureThreshold", (3,)),
    (r"template\.containers\.\d+\.probes\.\d+\.periodSeconds", (10,)),
    (r"template\.containers\.\d+\.probes\.\d+\.httpGet\.scheme", ("HTTP",)),
)
"""Path below ``properties`` → values that Azure sets by default: leaving the property out means the same."""


@dataclass(frozen=True)
class PropertyChange:
    """One property of a resource before and after, as short text."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.after}"


@dataclass(frozen=True)
class ResourceChange:
    """The predicted change of one resource: ``verb`` is create, change, delete, keep or unknown."""

    id: str
    verb: str
    differences: tuple[PropertyChange, ...] = ()

    @property
    def title(self) -> str:
        """The resource as kind and name."""
        return title_of(self.id)


@dataclass(frozen=True)
class WhatIf:
    """The predicted change of each resource; ``noise_count`` differences are left out."""

    changes: tuple[ResourceChange, ...] = ()
    noise_count: int = 0

    @classmethod
    def parse(cls, changes: Sequence[Mapping[str, Any]]) -> WhatIf:
        """Parse the list of changes in Azure's response."""
        found: list[ResourceChange] = []
        noise_count = 0
        for change in changes:
            resource = str(change.get("resourceId") or "")
            verb = _VERBS.get(str(change.get("changeType")), "unknown")
            if kind_of(resource) == DEPLOYMENT or change.get("changeType") == "Ignore":
                continue  # a module is not a resource, and ignored resources are not in the template
            differences = list(_differences(change.get("delta") or (), ""))
            real = tuple(shown for shown, raw in differences if not _is_noise(resource, shown.path, *raw))
            noise_count += len(differences) - len(real)
            found.append(ResourceChange(resource, "keep" if verb == "change" and not real else verb, real))
        return cls(tuple(sorted(found, key=lambda change: _ORDER.index(change.verb))), noise_count)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return verb, resource and differences."""
        return [
            (change.verb, change.title, "\n".join(map(str, change.differences))) for change in self.changes
        ]

    @property
    def note(self) -> str:
        """The number of differences that are left out, as a sentence; "" if there are none."""
        if not self.noise_count:
            return ""
        return f"{self.noise_count} more differences are ones that Azure always predicts and never makes."

    def __str__(self) -> str:
        rows = self.rows()
        width = max((len(title) for _, title, _ in rows), default=0)
        lines = [
            f"{verb:<7} {title:<{width}}".rstrip() + indent(f"\n{details}" if details else "", " " * 10)
            for verb, title, details in rows
        ]
        return "\n".join([*(lines or ["nothing would change"]), *([self.note] if self.note else [])])

    def html(self) -> str:
        """Return the table as HTML, escaped."""
        cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px;white-space:pre-wrap">'
        rows = "".join(
            f"<tr>{''.join(f'{cell}{escape(text)}</td>' for text in row)}</tr>" for row in self.rows()
        )
        note = f"<div>{escape(self.note)}</div>" if self.note else ""
        return f'<table style="border-collapse:collapse">{rows}</table>{note}'

    _repr_html_ = html


def _differences(
    delta: Sequence[Mapping[str, Any]], parent: str
) -> Iterator[tuple[PropertyChange, tuple[str, Any, Any]]]:
    """Yield each difference as text, with its kind and its values before and after."""
    for change in delta:
        path = f"{parent}.{change.get('path')}" if parent else str(change.get("path"))
        children = change.get("children")
        if children:
            yield from _differences(children, path)
            continue
        kind, before, after = str(change.get("propertyChangeType")), change.get("before"), change.get("after")
        yield PropertyChange(path, _text(path, before), _text(path, after)), (kind, before, after)


def _text(path: str, value: Any) -> str:
    if value is None:
        return "–"
    if ".secrets." in path or path.endswith(("Key", ".secrets")):
        return "(hidden)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1]}…"


def _is_noise(resource: str, path: str, kind: str, before: Any, after: Any) -> bool:
    """Return whether Azure never makes a predicted difference; ``kind`` is its ``propertyChangeType``."""
    # an expression in brackets is evaluated only during the deployment
    is_expression = isinstance(after, str) and after.startswith("[") and not after.startswith("[[")
    if kind == "NoEffect" or is_expression or (_is_empty(before) and _is_empty(after)):
        return True
    if _equivalent(before, after):
        return True
    if _SERVICE not in resource.lower():
        return False
    is_removed = after is None and (bool(_READ_ONLY.match(path)) or _is_default(path, before))
    return bool(_SECRET.match(path)) or is_removed


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {}, {"type": "None"})


def _is_default(path: str, value: Any) -> bool:
    matching = (
        values for key, values in _DEFAULTS if re.fullmatch(rf"properties\.{key}", path, re.IGNORECASE)
    )
    return any(_equivalent(value, one) for one in next(matching, ()))


def _equivalent(before: Any, after: Any) -> bool:
    """Return whether two values are equal but for the spelling of ids and regions, or numbers as text."""
    if isinstance(before, (list, dict)) or isinstance(after, (list, dict)):
        return before == after
    first, second = ("".join(str(value).split()).casefold() for value in (before, after))
    if first == second:
        return True
    if isinstance(before, bool) or isinstance(after, bool):
        return False
    try:
        return float(first) == float(second)
    except ValueError:
        return False
