"""Below an environment: storages, usages, profile states; in a region: the types of workload profiles."""

from __future__ import annotations

import copy
from typing import Any

from .app_versions import headers, refusal
from .environment_bodies import TYPE
from .environments import Environments
from .http import Response
from .resource_kind import Call, ResourceKind

OFFERED = (
    *((f"D{n}", "GeneralPurpose", n, 4 * n) for n in (4, 8, 16, 32)),
    *((f"E{n}", "MemoryOptimized", n, 8 * n) for n in (4, 8, 16, 32)),
    ("Consumption", "Consumption", 4, 8),
)
"""As recorded: no Consumption-GPU entry, even in regions with such machines."""


class Storages(ResourceKind):
    """Shares that an environment's apps can mount; the key is write-only."""

    type = f"{TYPE}/storages"
    needs_location = False

    def put(self, call: Call) -> Response:
        environment = call.arm.require(call.id.parent)
        file = dict((call.body.get("properties") or {}).get("azureFile") or {})
        missing = [
            name for name in ("accountName", "accountKey", "shareName", "accessMode") if not file.get(name)
        ]
        if missing:
            raise refusal(
                400,
                "InvalidManagedEnvironmentStorage",
                f"Managed environment storage '{call.id.name}' lacks {', '.join(missing)}.",
            )
        body = {
            "id": f"{environment['id']}/storages/{call.id.name}",
            "name": call.id.name,
            "type": "Microsoft.App/managedenvironments/storages",
            "properties": {"azureFile": file},
        }
        return Response.of(self.shown(call.arm.save(call.id, body)), headers=headers())

    def get(self, call: Call) -> Response:
        return Response.of(self.shown(self._found(call)), headers=headers())

    def list(self, call: Call) -> Response:
        call.arm.require(call.id.parent)
        return Response.of(
            {"value": [self.shown(body) for body in call.arm.list_collection(call.id)]}, headers=headers()
        )

    def delete(self, call: Call) -> Response:
        apps = [app for app in call.double.apps.apps() if app.environment_id.lower() == call.id.parent.key]
        users = [app for app in apps if call.id.name in app.storages()]
        if users:
            raise refusal(
                409,
                "ManagedEnvironmentStorageInUse",
                f"Cannot delete Managed environment storage '{call.id.name}' because it's still in use.",
            )
        return Response(200 if call.arm.forget(call.id) else 204, headers())

    def shown(self, body: dict[str, Any]) -> dict[str, Any]:
        shown = copy.deepcopy(body)
        file = shown["properties"]["azureFile"]
        shown["properties"]["azureFile"] = {
            name: file[name] for name in ("accountName", "shareName", "accessMode")
        }
        return shown

    def _found(self, call: Call) -> dict[str, Any]:
        call.arm.require(call.id.parent)
        body = call.arm.get(call.id)
        if body is None:
            raise refusal(
                404,
                "ManagedEnvironmentStorageNotFound",
                f"ManagedEnvironment Storage '{call.id.name}' was not found.",
            )
        return body


class ProfileStates(ResourceKind):
    """GET .../workloadProfileStates, a collection only."""

    type = f"{TYPE}/workloadProfileStates"

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    def list(self, call: Call) -> Response:
        return self._environments.states(call)


class EnvironmentUsages(ResourceKind):
    """GET .../usages, a collection only."""

    type = f"{TYPE}/usages"

    def __init__(self, environments: Environments) -> None:
        self._environments = environments

    def list(self, call: Call) -> Response:
        return self._environments.usages(call)


def profile_types(call: Call) -> Response:
    """GET availableManagedEnvironmentsWorkloadProfileTypes of a region."""
    region = call.id.names[0]
    start = f"/subscriptions/{call.id.subscription}/providers/Microsoft.App"
    base = f"{start}/availableManagedEnvironmentsWorkloadProfileTypes"
    listed = [
        {
            "location": region,
            "properties": {
                "displayName": name if name == "Consumption" else f"Dedicated-{name}",
                "category": category,
                "cores": cores,
                "memoryGiB": memory,
            },
            "id": f"{base}/{name}",
            "name": name,
            "type": "Microsoft.App/availableManagedEnvironmentsWorkloadProfileTypes",
        }
        for name, category, cores, memory in OFFERED
    ]
    return Response.of({"value": listed}, headers=headers())
