"""Microsoft.App/managedEnvironments: profiles, operations that exclude each other, tokens for their event stream."""

from __future__ import annotations

import copy
import hashlib
import ipaddress
import secrets
from typing import TYPE_CHECKING, Any

from .app_versions import headers, merged, set_fields, shaped, system_data
from .arm import Call, Kind
from .gpu_quota import MACHINES, Quota, dedicated_gpus, entry, profiles_of, types
from .http import Refused, Response
from .operations import Operation
from .regions import display
from .resource_ids import ResourceId

if TYPE_CHECKING:
    from .app_platform import Platform

TYPE = "Microsoft.App/managedEnvironments"
WORDS = (
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
PLACES = (
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
TIMEOUT = {"x-ms-async-operation-timeout": "PT15M"}


class Environments(Kind):
    """Environments of container apps."""

    type = TYPE

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self._busy: set[str] = set()

    def put(self, call: Call) -> Response:
        old = call.arm.get(call.id)
        body = completed(call, old)
        self._check(call, body, old)
        body["properties"]["provisioningState"] = "Updating" if old else "Waiting"
        call.arm.save(call.id, body)
        call.operation = self._begin(call, 60 if old is None else 20)
        status = call.arm.operations.status_url(
            call.operation, self._place(call, "Statuses"), call.version, extra="&azureAsyncOperation=true"
        )
        return Response.of(
            self.shown(body, call.version), 201, headers({"azure-asyncoperation": status, **TIMEOUT})
        )

    def patch(self, call: Call) -> Response:
        old = call.arm.require(call.id)
        call.body = {
            name: value
            for name, value in call.body.items()
            if name in ("properties", "tags", "identity", "location")
        }
        wanted = merged(old, call.body)
        call.body = {"location": old["location"], **wanted}
        body = completed(call, old)
        self._check(call, body, old)
        if _settings(body) == _settings(old):
            return Response.of(self.shown(old, call.version), headers=headers())
        body["properties"]["provisioningState"] = "Updating"
        call.arm.save(call.id, body)
        call.operation = self._begin(call, 20, shown=call.version)
        place = call.arm.operations.result_url(call.operation, self._place(call, "Results"), call.version)
        return Response(202, headers({"location": place}))

    def delete(self, call: Call) -> Response:
        body = call.arm.get(call.id)
        if body is None:
            return Response(204, headers())
        self._check_free(call)
        apps = [app.name for app in self.platform.apps() if app.environment_id.lower() == call.id.key]
        if apps:
            raise Refused(
                409,
                "ManagedEnvironmentHasContainerApps",
                f"The specified environment {call.id.name} cannot be deleted because it still contains {len(apps)} ContainerApps.",
            )
        body["properties"]["provisioningState"] = "ScheduledForDelete"
        call.operation = self._begin(call, 60, forget=True)
        place = call.arm.operations.result_url(
            call.operation, self._place(call, "Results"), call.version, empty=True
        )
        return Response(202, headers({"location": place}))

    def get(self, call: Call) -> Response:
        return Response.of(self.shown(call.arm.require(call.id), call.version), headers=headers())

    def list(self, call: Call) -> Response:
        return Response.of(
            {"value": [self.shown(body, call.version) for body in call.arm.below(call.id)]}, headers=headers()
        )

    def shown(self, body: dict[str, Any], version: str = "") -> dict[str, Any]:
        shown = shaped(body, version)
        logs = (shown["properties"].get("appLogsConfiguration") or {}).get("logAnalyticsConfiguration")
        if logs:
            logs["sharedKey"] = None
        return shown

    def post_getauthtoken(self, call: Call) -> Response:
        body = call.arm.require(call.id)
        return Response.of(
            auth_token(call, body, "Microsoft.App/environments/accesstoken"), headers=headers()
        )

    def states(self, call: Call) -> Response:
        """GET workloadProfileStates."""
        body = call.arm.require(call.id.owner)
        found = [
            {
                "id": f"{body['id']}/workloadProfileStates/{profile['name']}",
                "name": profile["name"],
                "type": profile["workloadProfileType"],
                "properties": {
                    **profile,
                    **({"currentCount": profile["minimumCount"]} if "minimumCount" in profile else {}),
                },
            }
            for profile in profiles_of(body)
        ]
        return Response.of(shaped({"value": found}, call.version), headers=headers())

    def usages(self, call: Call) -> Response:
        """GET usages of one environment."""
        call.arm.require(call.id.owner)
        kinds = ("GeneralPurpose", "MemoryOptimized", "Consumption")
        listed = [entry(f"ManagedEnvironment{kind}Cores", 0, 500) for kind in kinds]
        return Response.of({"value": listed}, headers=headers())

    def _begin(
        self, call: Call, seconds: float, *, shown: str | None = None, forget: bool = False
    ) -> Operation:
        key = call.id.key
        self._busy.add(key)

        def work() -> dict[str, Any] | None:
            try:
                if forget:
                    call.arm.forget(call.id)
                    return None
                body = call.arm.require(call.id)
                body["properties"]["provisioningState"] = "Succeeded"
                return self.shown(body, shown or call.version)
            finally:
                self._busy.discard(key)

        return call.arm.operations.begin(work, seconds=seconds)

    def _place(self, call: Call, kind: str) -> str:
        region = call.arm.require(call.id)["properties"]["defaultDomain"].split(".")[1]
        return f"/subscriptions/{call.id.subscription}/providers/Microsoft.App/locations/{region}/managedEnvironmentOperation{kind}"

    def _check_free(self, call: Call) -> None:
        if call.id.key in self._busy:
            raise Refused(
                409,
                "ManagedEnvironmentOperationInProgress",
                f"Cannot modify Container Apps environment {call.id.name} because another operation is in progress.",
            )

    def _check(self, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        self._check_free(call)
        profiles = profiles_of(body)
        for profile in profiles:
            _check_profile(profile)
        named = {profile["name"] for profile in profiles}
        for app in self.platform.apps():
            if app.environment_id.lower() == call.id.key:
                used = app.body["properties"].get("workloadProfileName")
                if used and used not in named:
                    raise Refused(
                        400,
                        "WorkloadProfileInUse",
                        f"Cannot remove workload profile '{used}' because it is in use by container app '{app.name}'.",
                    )
        if old is None or profiles != profiles_of(old):
            _check_quota(self.platform.quota, body, old)


def completed(call: Call, old: dict[str, Any] | None) -> dict[str, Any]:
    """What ARM keeps of a PUT: what was sent, over what is read-only."""
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


def _settings(body: dict[str, Any]) -> dict[str, Any]:
    properties = {name: value for name, value in body["properties"].items() if name != "provisioningState"}
    return {**body, "properties": properties, "systemData": None}


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


def _check_profile(profile: dict[str, Any]) -> None:
    type, name = profile["workloadProfileType"], profile["name"]
    machine = MACHINES.get(type)
    if machine is None:
        raise Refused(
            400,
            "InvalidWorkloadProfileType",
            f"Workload profile type '{type}' of profile '{name}' is not supported.",
        )
    counted = "minimumCount" in profile or "maximumCount" in profile
    if machine.serverless and counted:
        raise Refused(
            400,
            "InvalidWorkloadProfileConfiguration",
            f"Workload profile '{name}' of type '{type}' cannot have minimumCount or maximumCount.",
        )
    if not machine.serverless and ("minimumCount" not in profile or "maximumCount" not in profile):
        raise Refused(
            400,
            "InvalidWorkloadProfileConfiguration",
            f"Workload profile '{name}' of type '{type}' must have minimumCount and maximumCount.",
        )


def _check_quota(quota: Quota, body: dict[str, Any], old: dict[str, Any] | None) -> None:
    region = body["properties"]["defaultDomain"].split(".")[1]
    if old is None:
        quota.require(region, "ManagedEnvironmentCount", 1)
    before = profiles_of(old) if old else []
    had = {MACHINES[type].environments for type in types(before)}
    for name in {MACHINES[type].environments for type in types(profiles_of(body))} - had:
        if name:
            quota.require(region, name, 1)
    more = dedicated_gpus(profiles_of(body)) - dedicated_gpus(before)
    if more > 0:
        quota.require(region, "SubscriptionNCA100Gpus", more)


def _domain(id: ResourceId, region: str) -> str:
    digest = hashlib.sha256(f"{id.key}{secrets.token_hex(4)}".encode()).digest()
    words = WORDS[digest[0] % len(WORDS)] + PLACES[digest[1] % len(PLACES)]
    return f"{words}-{digest[2:6].hex()}.{region}.azurecontainerapps.io"


def auth_token(call: Call, body: dict[str, Any], type: str) -> dict[str, Any]:
    """The answer of getAuthToken: a token for the streams, good for an hour."""
    token, expires = call.arm.double.apps.stream_tokens.give(call.id.key)
    return {
        "location": body["location"],
        "properties": {"token": token, "expires": expires},
        "id": body["id"],
        "name": body["name"],
        "type": type,
    }
