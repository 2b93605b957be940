"""Azure Resource Manager without Container Apps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arm import Arm
from .clock import Clock
from .deployments import Deployments
from .groups import Groups
from .permissions import Permissions
from .providers import Providers
from .storage_accounts import StorageAccounts
from .storage_shares import FileServices, Shares
from .subscriptions import Subscriptions
from .workspaces import Workspaces

if TYPE_CHECKING:
    from .double import AzureDouble


class ResourceManager(Arm):
    """The router with its resource kinds; order of the guards: subscription, permission, group, provider."""

    def __init__(self, double: AzureDouble, clock: Clock) -> None:
        super().__init__(double, clock)
        self.subscriptions = Subscriptions(self)
        self.permissions = Permissions(self)
        self.groups = Groups(self)
        self.providers = Providers(self)
        self.storage_accounts = StorageAccounts(self)
        FileServices(self)
        Shares(self)
        Workspaces(self)
        self.deployments = Deployments(self)
