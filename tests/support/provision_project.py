"""A workspace that provisions a CPU-only app into the Azure double, for tests of provisioning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import Provision, ProvisionPlan, ProvisionSettings, plan, provision
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call, Refused
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until

FAST, SLOW = 0.002, 0.03
"""Real seconds for one second of the double: to run through, and to interrupt a step."""
WRITES = ("PUT", "PATCH", "DELETE")


class ProvisionProject:
    """A workspace, the double, and the settings of a CPU-only app."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self.double = double
        self.workspace = Workspace(root)
        self.progress = RecordingProgress()

    def settings(self, **values: Any) -> ProvisionSettings:
        return ProvisionSettings(
            **{"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none", **values}
        )

    @property
    def names(self) -> ResourceNames:
        return self.settings().resource_names()

    def create_group(self, location: str = "westus3") -> ProvisionProject:
        groups = Cloud.shared().resources(SUBSCRIPTION).resource_groups
        groups.create_or_update("my-rg", {"location": location})
        return self

    def provision(
        self,
        *,
        apply: bool = True,
        progress: Progress | None = None,
        ready_timeout: float = 60,
        **values: Any,
    ) -> Provision:
        self.progress = RecordingProgress()
        return provision(
            self.settings(**values),
            apply=apply,
            workspace=self.workspace,
            progress=progress or self.progress,
            ready_timeout=ready_timeout,
        )

    def plan(self, **values: Any) -> ProvisionPlan:
        return plan(self.settings(**values), workspace=self.workspace)

    def body(self, name: str) -> dict[str, Any]:
        """Return the double's body of a resource."""
        found = self.double.arm.get(self.names.ids[name])
        assert found is not None, name
        return found

    @property
    def apps(self) -> Any:
        return Cloud.shared().containerapps(SUBSCRIPTION).container_apps

    def app(self) -> dict[str, Any]:
        """Return the app's JSON as Azure sends it."""
        return self.apps.get("my-rg", self.names.app).as_dict()

    def state(self, *, app: bool = False) -> str:
        """Return all content of the double as one text."""
        shown = [self.app(), self.secrets()] if app else []
        return json.dumps([self.double.arm.resources, *shown], sort_keys=True, default=str)

    def deployment(self) -> dict[str, Any] | None:
        name = f"nbtoolkit-{self.names.app}"
        return self.double.arm.get(f"{self.names.group_id}/providers/Microsoft.Resources/deployments/{name}")

    def deployment_state(self) -> str:
        return (self.deployment() or {"properties": {}})["properties"].get("provisioningState", "")

    def wait_for_deployment(self) -> None:
        """Let the double end the deployment quickly, and wait for it."""
        self.double.clock.scale = FAST
        wait_until(lambda: self.deployment_state() != "Running")

    def writes(self, since: int = 0) -> list[tuple[str, str]]:
        """Return the requests that write, as method and the last two parts of the path."""
        seen = self.double.requests[since:]
        return [(one.method, "/".join(one.path.split("/")[-2:])) for one in seen if one.method in WRITES]

    def reads(self, since: int = 0) -> list[str]:
        """Return the last two parts of the path of each GET to the resource manager."""
        seen = [one for one in self.double.requests[since:] if one.host == "management.azure.com"]
        return ["/".join(one.path.split("/")[-2:]) for one in seen if one.method == "GET"]

    def secrets(self) -> dict[str, str]:
        return {one.name: one.value for one in self.apps.list_secrets("my-rg", self.names.app).value}


def fail_put(
    project: ProvisionProject, resource_type: str, status: int, code: str, message: str
) -> Callable[[Call], None]:
    """Fail each PUT of a resource type during a deployment, until the returned guard is removed."""

    def guard(call: Call) -> None:
        if call.method == "PUT" and call.id.type == resource_type and project.deployment() is not None:
            raise Refused(status, code, message)

    project.double.arm.guards.append(guard)
    return guard
