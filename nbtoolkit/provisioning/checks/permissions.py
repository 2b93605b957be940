"""Which of Azure's actions provisioning, deploying and operating need, and which of them are missing."""

from __future__ import annotations

from collections.abc import Iterable

from nbtoolkit.azure.arm import permissions
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.permissions import Grants
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks.findings import Findings
from nbtoolkit.utils.threads import query_all

_ALWAYS = (
    "Microsoft.Resources/deployments/read",
    "Microsoft.Resources/deployments/write",
    "Microsoft.Resources/deployments/validate/action",
    "Microsoft.Resources/deployments/whatIf/action",
    "Microsoft.Resources/deployments/cancel/action",
    "Microsoft.Resources/deployments/operations/read",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/listKeys/action",
    "Microsoft.Storage/storageAccounts/fileServices/shares/read",
    "Microsoft.App/managedEnvironments/read",
    "Microsoft.App/managedEnvironments/join/action",
    "Microsoft.App/managedEnvironments/storages/read",
    "Microsoft.App/containerApps/read",
    "Microsoft.App/containerApps/write",
    "Microsoft.App/containerApps/listSecrets/action",
    "Microsoft.App/containerApps/getAuthToken/action",
    "Microsoft.App/containerApps/logstream/action",
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
_LATER = {
    "Microsoft.App/managedEnvironments/storages/write": "repair() after a key was rotated",
    "Microsoft.App/containerApps/delete": "teardown()",
}
"""Not needed to provision, and missed later."""
GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"


def needed(existing: ExistingResources, *, adds_profile: bool) -> list[str]:
    """Return the actions that are needed in the resource group, given what exists there."""
    actions = [*_ALWAYS]
    if existing.storage_account is None:
        actions += _STORAGE
    if existing.file_share is None:
        actions += _SHARE
    if existing.environment is None:
        actions += [*(_WORKSPACE if existing.log_analytics is None else ()), *_LOGS]
    if existing.environment is None or adds_profile:
        actions += _ENVIRONMENT
    if existing.environment_storage is None:
        actions += _MOUNT
    return actions


def forbidden(cloud: Cloud, names: ResourceNames, failed: AzureFailed, progress: Progress) -> list[str]:
    """Return blockers for a refusal: all that is not allowed, as far as Azure tells, else the refusal."""
    sentence = f"{failed.message} {failed.next_step[:1].upper()}{failed.next_step[1:]}."
    asked = {"rights": lambda: permissions.group_permissions(cloud, names.subscription, names.resource_group)}
    granted = query_all(asked, progress)["rights"]
    if not isinstance(granted, Grants):
        return [sentence]
    actions = needed(ExistingResources(names), adds_profile=False)
    return check_group(granted, actions, names.resource_group).blockers or [sentence]


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
    for action, what in _LATER.items():
        if action not in missing and not grants.allow(action):
            found.warn(f"You may not do {action} in the resource group {group}: {what} will need it.")
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
