"""Which differences Azure predicts and never makes: they are folded away, nothing else is."""

from __future__ import annotations

import re
from typing import Any

_SERVICE = "/microsoft.app/"
"""Of the service that fills much into its resources; what-if calls it deleted (arm-template-whatif#331)."""

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
"""What only Azure writes."""

_SECRET = re.compile(r"properties\.configuration\.secrets\.\d+\.value$", re.IGNORECASE)
"""A prediction is asked for with placeholders, and Azure shows no secret: what changes is told beside."""

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
"""Path below ``properties`` → what Azure fills in by itself: leaving it out means the same."""


def is_noise(resource: str, path: str, kind: str, before: Any, after: Any) -> bool:
    """Tell whether a predicted difference is none; ``kind`` is Azure's word for it."""
    if kind == "NoEffect" or _is_expression(after):
        return True
    if _is_empty(before) and _is_empty(after):
        return True
    if _same(before, after):
        return True
    if _SERVICE not in resource.lower():
        return False
    if _SECRET.match(path):
        return True
    return after is None and (bool(_READ_ONLY.match(path)) or _is_default(path, before))


def _is_expression(value: Any) -> bool:
    """Tell whether a value is known only once the deployment runs."""
    return isinstance(value, str) and value.startswith("[") and not value.startswith("[[")


def _is_empty(value: Any) -> bool:
    return value in (None, "", [], {}, {"type": "None"})


def _is_default(path: str, value: Any) -> bool:
    for pattern, values in _DEFAULTS:
        if re.fullmatch(rf"properties\.{pattern}", path, re.IGNORECASE):
            return any(_same(value, one) for one in values)
    return False


def _same(before: Any, after: Any) -> bool:
    """Tell whether two values mean the same: ids and regions in another spelling, numbers as text."""
    if isinstance(before, (list, dict)) or isinstance(after, (list, dict)):
        return before == after
    plain = ["".join(str(value).split()).casefold() for value in (before, after)]
    if plain[0] == plain[1]:
        return True
    try:
        return (
            not isinstance(before, bool)
            and not isinstance(after, bool)
            and float(plain[0]) == float(plain[1])
        )
    except ValueError:
        return False
