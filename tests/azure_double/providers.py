"""Resource providers and their registration, which a subscription needs before it uses them."""

from __future__ import annotations

from typing import Any

from . import regions
from .arm import Arm
from .http import Refused, Response
from .resource_kind import Call

SECONDS = 20
TYPES: dict[str, tuple[str, ...]] = {
    "Microsoft.App": (
        "managedEnvironments",
        "managedEnvironments/storages",
        "containerApps",
        "containerApps/revisions",
    ),
    "Microsoft.Storage": (
        "storageAccounts",
        "storageAccounts/fileServices",
        "storageAccounts/fileServices/shares",
    ),
    "Microsoft.OperationalInsights": ("workspaces",),
    "Microsoft.Resources": ("resourceGroups", "deployments", "subscriptions"),
    "Microsoft.Authorization": ("permissions",),
}
VERSIONS = {
    "Microsoft.App": ["2026-07-01", "2026-01-01", "2025-07-01", "2025-01-01", "2024-03-01"],
    "Microsoft.Storage": ["2026-09-01", "2025-06-01", "2024-01-01", "2023-05-01"],
    "Microsoft.OperationalInsights": ["2025-07-01", "2025-02-01", "2023-09-01", "2022-10-01"],
}
ALWAYS = ("microsoft.resources", "microsoft.authorization")


class Providers:
    """Registration by namespace; a test takes one away with `states["Microsoft.App"] = "NotRegistered"`."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.states: dict[str, str] = dict.fromkeys(TYPES, "Registered")
        self.gpu_regions = ("westus3", "swedencentral", "australiaeast")
        arm.guards.append(self._guard)
        base = "/subscriptions/[^/]+/providers"
        arm.route(
            "GET", base, lambda call: Response.of({"value": [self._body(call, name) for name in TYPES]})
        )
        arm.route("GET", rf"{base}/[^/]+", lambda call: Response.of(self._body(call, self._name(call))))
        arm.route("POST", rf"{base}/[^/]+/register", self._register)

    def _name(self, call: Call) -> str:
        wanted = (call.id.namespace or "").lower()
        for name in TYPES:
            if name.lower() == wanted:
                return name
        raise Refused(
            404, "InvalidResourceNamespace", f"The resource namespace '{call.id.namespace}' is invalid."
        )

    def _guard(self, call: Call) -> None:
        namespace = call.id.namespace or ""
        if call.method not in ("PUT", "PATCH") or not call.id.names or namespace.lower() in ALWAYS:
            return
        if self.states.get(self._name(call)) != "Registered":
            code = "MissingSubscriptionRegistration"
            message = (
                f"The subscription is not registered to use namespace '{namespace}'. See "
                "https://aka.ms/rps-not-found for how to register subscriptions."
            )
            raise Refused(
                409, code, message, details=[{"code": code, "target": namespace, "message": message}]
            )

    def _register(self, call: Call) -> Response:
        name = self._name(call)
        if self.states[name] != "Registered":
            self.states[name] = "Registering"

            def work() -> None:
                self.states[name] = "Registered"

            self._arm.operations.begin(work, seconds=SECONDS)
        return Response.of(self._body(call, name))

    def _body(self, call: Call, name: str) -> dict[str, Any]:
        versions = VERSIONS.get(name, ["2026-06-01", "2021-04-01"])
        shown = [region[0] for region in regions.REGIONS.values()]
        return {
            "id": f"/subscriptions/{call.id.subscription}/providers/{name}",
            "namespace": name,
            "authorizations": [
                {
                    "applicationId": "7e3bc4fd-85a3-4192-b177-5b8bfc87f42c",
                    "roleDefinitionId": "39a74f72-b40f-4bdc-b639-562fe2260bf0",
                }
            ],
            "resourceTypes": [
                {
                    "resourceType": type,
                    "locations": shown,
                    "apiVersions": versions,
                    "defaultApiVersion": versions[0],
                    "capabilities": "SupportsTags, SupportsLocation",
                }
                for type in TYPES[name]
            ],
            "registrationState": self.states[name],
            "registrationPolicy": "RegistrationFree" if name.lower() in ALWAYS else "RegistrationRequired",
        }
