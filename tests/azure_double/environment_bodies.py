"""The body of an environment: defaults, and validation of workload profiles."""

from __future__ import annotations

import copy
import hashlib
import ipaddress
import secrets
from typing import Any

from .app_versions import refusal, set_fields, system_data
from .gpu_quota import MACHINES
from .regions import display
from .resource_ids import ResourceId
from .resource_kind import Call

TYPE = "Microsoft.App/managedEnvironments"
ADJECTIVES = (
    "gentle",
    "yellow",
    "thankful",
    "brave",
    "calm",
    "icy",
    "orange",
    "red",
    "witty",
    "gray",
    "ashy",
    "black",
)
NOUNS = (
    "field",
    "glacier",
    "tree",
    "forest",
    "sky",
    "hill",
    "smoke",
    "ground",
    "rock",
    "sea",
    "island",
    "bush",
)
VERIFICATION = "D3F71C85EB6552E36A89A3E4A080C3CFB00181670B659B0003264FC673AA9B00"


def completed(call: Call, old: dict[str, Any] | None) -> dict[str, Any]:
    """Return the stored body of a PUT: the request's values with the read-only ones."""
    given = call.body
    sent = given.get("properties") or {}
    kept = (old or {}).get("properties") or {}
    region = call.location
    domain = kept.get("defaultDomain") or _domain(call.id, region)
    region = domain.split(".")[1]
    logs = sent.get("appLogsConfiguration") or {}
    analytics = logs.get("logAnalyticsConfiguration")
    network = sent.get("vnetConfiguration")
    properties: dict[str, Any] = {
        "provisioningState": "Succeeded",
        "daprAIInstrumentationKey": sent.get("daprAIInstrumentationKey"),
        "daprAIConnectionString": sent.get("daprAIConnectionString"),
        "vnetConfiguration": {
            "internal": False,
            "infrastructureSubnetId": None,
            "dockerBridgeCidr": None,
            "platformReservedCidr": None,
            "platformReservedDnsIP": None,
            **network,
        }
        if network
        else None,
        "defaultDomain": domain,
        "staticIp": kept.get("staticIp")
        or str(ipaddress.IPv4Address(0x14000000 + secrets.randbelow(1 << 24))),
        "appLogsConfiguration": {
            "destination": logs.get("destination"),
            "logAnalyticsConfiguration": {"sharedKey": None, "dynamicJsonColumns": False, **analytics}
            if analytics
            else None,
        },
        "openTelemetryConfiguration": sent.get("openTelemetryConfiguration"),
        "zoneRedundant": bool(sent.get("zoneRedundant")),
        "availabilityZones": None,
        "kedaConfiguration": {"version": "2.16.1"},
        "daprConfiguration": {"version": "1.13.6-msft.2"},
        "eventStreamEndpoint": f"https://{region}.azurecontainerapps.dev{call.id.group_id}/managedEnvironments/{call.id.name}/eventstream",
        "customDomainConfiguration": {
            "customDomainVerificationId": VERIFICATION,
            "dnsSuffix": None,
            "certificateKeyVaultProperties": None,
            "certificateValue": None,
            "certificatePassword": None,
            "thumbprint": None,
            "subjectName": None,
            "expirationDate": None,
            **set_fields(sent.get("customDomainConfiguration") or {}),
        },
        "workloadProfiles": _profiles(sent.get("workloadProfiles")),
        "appInsightsConfiguration": sent.get("appInsightsConfiguration"),
        "infrastructureResourceGroup": sent.get("infrastructureResourceGroup")
        or kept.get("infrastructureResourceGroup")
        or (f"ME_{call.id.name}_{call.id.group}_{region}" if network else None),
        "peerAuthentication": sent.get("peerAuthentication") or {"mtls": {"enabled": False}},
        "peerTrafficConfiguration": sent.get("peerTrafficConfiguration")
        or {"encryption": {"enabled": False}},
        "publicNetworkAccess": sent.get("publicNetworkAccess") or "Enabled",
        "diskEncryptionConfiguration": None,
    }
    body: dict[str, Any] = {
        "id": f"{call.id.group_id}/providers/{TYPE}/{call.id.name}",
        "name": call.id.name,
        "type": TYPE,
        "location": display(region),
        "systemData": system_data(old, call.arm.double.clock.stamp().rstrip("Z")),
        "properties": properties,
    }
    if given.get("tags"):
        body["tags"] = given["tags"]
    identity = given.get("identity")
    if identity and identity.get("type") not in (None, "None"):
        body["identity"] = identity
    return copy.deepcopy(body)


def _profiles(given: Any) -> list[dict[str, Any]] | None:
    if not given:
        return None
    found: list[dict[str, Any]] = []
    for one in given:
        fields = {name[0].lower() + name[1:]: value for name, value in one.items() if value is not None}
        profile = {
            "workloadProfileType": fields["workloadProfileType"],
            "name": fields["name"],
            "enableFips": False,
        }
        for name in ("minimumCount", "maximumCount"):
            if name in fields:
                profile[name] = int(fields[name])
        found.append(profile)
    return found


def check_profile(profile: dict[str, Any]) -> None:
    type, name = profile["workloadProfileType"], profile["name"]
    machine = MACHINES.get(type)
    if machine is None:
        raise refusal(
            400,
            "InvalidWorkloadProfileType",
            f"Workload profile type '{type}' of profile '{name}' is not supported.",
        )
    counted = "minimumCount" in profile or "maximumCount" in profile
    if machine.serverless and counted:
        raise refusal(
            400,
            "InvalidWorkloadProfileConfiguration",
            f"Workload profile '{name}' of type '{type}' cannot have minimumCount or maximumCount.",
        )
    if not machine.serverless and ("minimumCount" not in profile or "maximumCount" not in profile):
        raise refusal(
            400,
            "InvalidWorkloadProfileConfiguration",
            f"Workload profile '{name}' of type '{type}' must have minimumCount and maximumCount.",
        )


def _domain(id: ResourceId, region: str) -> str:
    digest = hashlib.sha256(f"{id.key}{secrets.token_hex(4)}".encode()).digest()
    words = ADJECTIVES[digest[0] % len(ADJECTIVES)] + NOUNS[digest[1] % len(NOUNS)]
    return f"{words}-{digest[2:6].hex()}.{region}.azurecontainerapps.io"
