"""Recognise differences that Azure predicts and never makes."""

from __future__ import annotations

import re
from typing import Any

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


def is_noise(resource: str, path: str, kind: str, before: Any, after: Any) -> bool:
    """Tell whether Azure never makes a predicted difference; ``kind`` is its ``propertyChangeType``."""
    if kind == "NoEffect" or _is_expression(after):
        return True
    if _is_empty(before) and _is_empty(after):
        return True
    if _equivalent(before, after):
        return True
    if _SERVICE not in resource.lower():
        return False
    if _SECRET.match(path):
        return True
    return after is None and (bool(_READ_ONLY.match(path)) or _is_default(path, before))


def _is_expression(value: Any) -> bool:
    """Tell whether a value is evaluated only during the deployment."""
    return isinstance(value, str) and value.startswith("[") and not value.startswith("[[")


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {}, {"type": "None"})


def _is_default(path: str, value: Any) -> bool:
    for pattern, values in _DEFAULTS:
        if re.fullmatch(rf"properties\.{pattern}", path, re.IGNORECASE):
            return any(_equivalent(value, one) for one in values)
    return False


def _equivalent(before: Any, after: Any) -> bool:
    """Tell whether two values are equal but for the spelling of ids and regions, or numbers as text."""
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
