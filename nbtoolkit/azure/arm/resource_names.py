"""The names of all that the inference app needs, in one resource group."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """The chosen or derived name of each resource, and its id."""

    subscription: str
    resource_group: str
    account: str
    share: str
    environment: str
    environment_storage: str
    app: str
    workspace: str

    @property
    def group_id(self) -> str:
        """The id of the resource group."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def ids(self) -> dict[str, str]:
        """Field → resource id, in the order in which things are created."""
        storage = f"{self.group_id}/providers/Microsoft.Storage/storageAccounts/{self.account}"
        aca = f"{self.group_id}/providers/Microsoft.App"
        logs = f"{self.group_id}/providers/Microsoft.OperationalInsights"
        return {
            "account": storage,
            "share": f"{storage}/fileServices/default/shares/{self.share}",
            "workspace": f"{logs}/workspaces/{self.workspace}",
            "environment": f"{aca}/managedEnvironments/{self.environment}",
            "environment_storage": (
                f"{aca}/managedEnvironments/{self.environment}/storages/{self.environment_storage}"
            ),
            "app": f"{aca}/containerApps/{self.app}",
        }
