"""Which of Azure's actions provisioning, deploying and operating need, and which of them are missing."""

from __future__ import annotations

from collections.abc import Iterable

from nbtoolkit.azure.existing import Existing
from nbtoolkit.azure.permissions import Grants
from nbtoolkit.provisioning.checks.findings import Findings

_ALWAYS = (
    "Microsoft.Resources/deployments/read",
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/deployments/validate/action",
    "Microsoft.Resources/deployments/whatIf/action",
    "Microsoft.Resources/deployments/cancel/action",
    "Microsoft.Resources/deployments/operations/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/listKeys/action",
    "Microsoft.App/managedEnvironments/read",
    "Microsoft.App/managedEnvironments/join/action",
    "Microsoft.App/containerApps/read",
    "Microsoft.App/containerApps/write",
    "Microsoft.App/containerApps/listSecrets/action",
    "Microsoft.App/containerApps/getAuthToken/action",
    "Microsoft.App/containerApps/stop/action",
    "Microsoft.App/containerApps/start/action",
    "Microsoft.App/containerApps/revisions/read",
    "Microsoft.App/containerApps/revisions/restart/action",
    "Microsoft.App/containerApps/revisions/replicas/read",
)
_STORAGE = ("Microsoft.Storage/storageAccounts/write", "Microsoft.Storage/storageAccounts/fileServices/write")
_SHARE = ("Microsoft.Storage/storageAccounts/fileServices/shares/write",)
_WORKSPACE = ("Microsoft.OperationalInsights/workspaces/write",)
_LOGS = ("Microsoft.OperationalInsights/workspaces/sharedKeys/action",)
_ENVIRONMENT = ("Microsoft.App/managedEnvironments/write",)
_MOUNT = ("Microsoft.App/managedEnvironments/storages/write",)
GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"


def needed(existing: Existing, *, adds_profile: bool) -> list[str]:
    """Return the actions that are needed in the resource group, given what exists there."""
    actions = [*_ALWAYS]
    if existing.account is None:
        actions += _STORAGE
    if existing.share is None:
        actions += _SHARE
    if existing.environment is None:
        actions += [*(_WORKSPACE if existing.workspace is None else ()), *_LOGS]
    if existing.environment is None or adds_profile:
        actions += _ENVIRONMENT
    if existing.environment_storage is None:
        actions += _MOUNT
    return actions


def check_group(grants: Grants, actions: Iterable[str], group: str) -> Findings:
    """Tell which actions are missing in a resource group."""
    found = Findings()
    missing = grants.missing(actions)
    if missing:
        found.block(
            f"You may not do this in the resource group {group}: {', '.join(missing)}. Ask one of its owners "
            "for the role Contributor on the group, or for a role with these actions."
        )
    else:
        found.facts["permissions"] = f"all that is needed in {group}"
    return found


def check_subscription(grants: Grants, register: Iterable[str], *, creates_group: bool) -> Findings:
    """Tell which actions are missing in the subscription: to register providers, to create the group."""
    found = Findings()
    wanted = [f"{namespace}/register/action" for namespace in register] + ([GROUP] if creates_group else [])
    missing = grants.missing(wanted)
    if missing:
        found.block(
            f"You may not do this in the subscription: {', '.join(missing)}. Ask one of its owners "
            "to do it once, or for the role Contributor on it."
        )
    return found
