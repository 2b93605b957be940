"""Microsoft.App/managedEnvironments: one change at a time, quota, tokens for the event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .app_versions import headers, merged, refusal, shaped
from .environment_bodies import TYPE, check_profile, completed
from .gpu_quota import MACHINES, Quota, dedicated_gpus, entry, profiles_of, types
from .http import Response
from .operations import Operation
from .resource_kind import Call, ResourceKind

if TYPE_CHECKING:
    from .app_platform import Platform

TIMEOUT = {"x-ms-async-operation-timeout": "PT15M"}


class Environments(ResourceKind):
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
            call.operation,
            self._operation_path(call, "Statuses"),
            call.version,
            extra="&azureAsyncOperation=true",
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
        place = call.arm.operations.result_url(
            call.operation, self._operation_path(call, "Results"), call.version
        )
        return Response(202, headers({"location": place}))

    def delete(self, call: Call) -> Response:
        body = call.arm.get(call.id)
        if body is None:
            return Response(204, headers())
        self._check_free(call)
        apps = [app.name for app in self.platform.apps() if app.environment_id.lower() == call.id.key]
        if apps:
            raise refusal(
                409,
                "ManagedEnvironmentHasContainerApps",
                f"The specified environment {call.id.name} cannot be deleted because it still contains "
                f"{len(apps)} ContainerApps.",
            )
        body["properties"]["provisioningState"] = "ScheduledForDelete"
        call.operation = self._begin(call, 60, forget=True)
        if call.request is None:  # its group is being deleted
            call.operation.wait()
            return Response(204, headers())
        place = call.arm.operations.result_url(
            call.operation, self._operation_path(call, "Results"), call.version, empty=True
        )
        return Response(202, headers({"location": place}))

    def get(self, call: Call) -> Response:
        return Response.of(self.shown(call.arm.require(call.id), call.version), headers=headers())

    def list(self, call: Call) -> Response:
        return Response.of(
            {"value": [self.shown(body, call.version) for body in call.arm.list_collection(call.id)]}
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

    def _operation_path(self, call: Call, kind: str) -> str:
        region = call.arm.require(call.id)["properties"]["defaultDomain"].split(".")[1]
        start = f"/subscriptions/{call.id.subscription}/providers/Microsoft.App/locations/{region}"
        return f"{start}/managedEnvironmentOperation{kind}"

    def _check_free(self, call: Call) -> None:
        if call.id.key in self._busy:
            raise refusal(
                409,
                "ManagedEnvironmentOperationInProgress",
                f"Cannot modify Container Apps environment {call.id.name} because another operation is in "
                "progress.",
            )

    def _check(self, call: Call, body: dict[str, Any], old: dict[str, Any] | None) -> None:
        self._check_free(call)
        profiles = profiles_of(body)
        for profile in profiles:
            check_profile(profile)
        named = {profile["name"] for profile in profiles}
        for app in self.platform.apps():
            if app.environment_id.lower() == call.id.key:
                used = app.body["properties"].get("workloadProfileName")
                if used and used not in named:
                    raise refusal(
                        400,
                        "WorkloadProfileInUse",
                        f"Cannot remove workload profile '{used}' because it is in use by container app "
                        f"'{app.name}'.",
                    )
        if old is None or profiles != profiles_of(old):
            _check_quota(self.platform.quota, body, old)


def _settings(body: dict[str, Any]) -> dict[str, Any]:
    properties = {name: value for name, value in body["properties"].items() if name != "provisioningState"}
    return {**body, "properties": properties, "systemData": None}


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


def auth_token(call: Call, body: dict[str, Any], type: str) -> dict[str, Any]:
    """The answer of getAuthToken: a token for the streams, good for an hour."""
    token, expires = call.arm.double.apps.stream_tokens.issue(call.id.key)
    return {
        "location": body["location"],
        "properties": {"token": token, "expires": expires},
        "id": body["id"],
        "name": body["name"],
        "type": type,
    }
