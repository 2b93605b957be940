"""What was provisioned: the six keys of ``infra/inference.config.json``, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.infra_files import InfraFiles
from nbtoolkit.workspace import Workspace

_KEYS = {
    "subscription": "SUBSCRIPTION_ID",
    "resource_group": "RESOURCE_GROUP_NAME",
    "storage_account": "STORAGE_ACCOUNT_NAME",
    "file_share": "FILE_SHARE_NAME",
    "app": "ACA_APP_NAME",
    "endpoint": "ACA_APP_ENDPOINT",
}


@dataclass(frozen=True)
class Provisioned:
    """Where releases of this workspace run on Azure; ``endpoint`` is None until an app gave its address."""

    subscription: str
    resource_group: str
    storage_account: str
    file_share: str
    app: str
    endpoint: str | None = None

    @classmethod
    def read(cls, workspace: Workspace) -> Provisioned:
        """Return what the config file names; written by :func:`provision` or by hand.

        Raises :class:`InvalidSettings` naming the keys that are missing.
        """
        file = InfraFiles(workspace).inference_config
        values = {name: file.get(key) for name, key in _KEYS.items()}
        missing = [key for name, key in _KEYS.items() if name != "endpoint" and not values[name]]
        if missing:
            what = f"lacks {', '.join(missing)}" if file.exists else "does not exist"
            raise InvalidSettings(
                f"{file.path} {what}, so it is not known where this workspace runs on Azure.",
                next_step="run provision(), or write the names of resources that exist into that file",
                path=file.path,
                missing=tuple(missing),
            )
        values["endpoint"] = InfraFiles(workspace).endpoint
        return cls(**values)

    def write(self, workspace: Workspace) -> bool:
        """Write the config file, other keys left as they are; return whether anything changed."""
        file = InfraFiles(workspace).inference_config
        for name, key in _KEYS.items():
            value: str | None = getattr(self, name)
            file.set(key, value.removeprefix("https://") if value else None)
        return file.save()

    @property
    def group_id(self) -> str:
        """The id of the resource group."""
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"

    @property
    def app_id(self) -> str:
        """The id of the container app."""
        return f"{self.group_id}/providers/Microsoft.App/containerApps/{self.app}"

    @property
    def account_id(self) -> str:
        """The id of the storage account."""
        return f"{self.group_id}/providers/Microsoft.Storage/storageAccounts/{self.storage_account}"


def portal_url(resource_id: str) -> str:
    """Return the page of a resource in the Azure portal."""
    return f"https://portal.azure.com/#resource{resource_id}"
