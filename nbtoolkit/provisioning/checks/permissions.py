"""Check that the user may do every Azure action that provisioning, deploying and operating need."""

from __future__ import annotations

from itertools import chain

from nbtoolkit.azure.arm import permissions
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.permissions import Grants
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks import Preflight, as_sentence
from nbtoolkit.provisioning.settings import ProvisionSettings
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
_TO_CREATE = {
    "storage_account": (
        "Microsoft.Storage/storageAccounts/write",
        "Microsoft.Storage/storageAccounts/fileServices/write",
    ),
    "file_share": ("Microsoft.Storage/storageAccounts/fileServices/shares/write",),
    "environment": ("Microsoft.OperationalInsights/workspaces/sharedKeys/action",),
    "environment_storage": ("Microsoft.App/managedEnvironments/storages/write",),
}
"""Resource that does not exist yet → actions that creating it needs, where no setting decides on them."""
_LATER = {
    "Microsoft.App/managedEnvironments/storages/write": "repair() after a key was rotated",
    "Microsoft.App/containerApps/delete": "teardown()",
}
"""Action that provisioning does not need → the later step that needs it."""
_CREATE_GROUP = "Microsoft.Resources/subscriptions/resourceGroups/write"


def _required_actions(found: Preflight) -> list[str]:
    """Return the actions that are needed in the resource group, given the existing resources."""
    existing = found.existing
    missing = [actions for name, actions in _TO_CREATE.items() if getattr(existing, name) is None]
    actions = [*_ALWAYS, *chain.from_iterable(missing)]
    if existing.environment is None and existing.log_analytics is None:
        actions.append("Microsoft.OperationalInsights/workspaces/write")
    if existing.environment is None or found.added_profile:
        actions.append("Microsoft.App/managedEnvironments/write")
    return actions


def blockers_of_refusal(
    settings: ProvisionSettings, names: ResourceNames, refusal: AzureFailed, cloud: Cloud, progress: Progress
) -> tuple[str, ...]:
    """Return blockers for a read that Azure refused: all missing actions, or the refusal if they are unknown.

    One request.
    """
    sentence = f"{refusal.message} {as_sentence(refusal.next_step)}"
    query = {"group": lambda: permissions.group_permissions(cloud, names.subscription, names.resource_group)}
    grants = query_all(query, progress)["group"]
    if not isinstance(grants, Grants):
        return (sentence,)
    found = Preflight(settings, ExistingResources(names))
    check_group(found, grants)
    return found.blockers or (sentence,)


def check_group(found: Preflight, grants: Grants) -> None:
    """Block if a required action is not allowed in the resource group; warn about later steps."""
    group = found.existing.names.resource_group
    missing = grants.missing(_required_actions(found))
    if missing:
        found.block(
            f"Your permissions in the resource group {group} lack {', '.join(missing)}. Ask one of its "
            "owners for the role Contributor on the group, or for a role with these actions."
        )
    else:
        found.facts["permissions"] = f"all that are needed in {group}"
    for action, step in _LATER.items():
        if action not in missing and not grants.allow(action):
            found.warn(f"Your permissions in the resource group {group} lack {action}: {step} will need it.")


def check_subscription(found: Preflight, grants: Grants, *, creates_group: bool) -> None:
    """Block if registering the missing providers, or creating the resource group, is not allowed."""
    actions = [f"{namespace}/register/action" for namespace in found.unregistered]
    missing = grants.missing([*actions, *([_CREATE_GROUP] if creates_group else [])])
    if missing:
        found.block(
            f"Your permissions in the subscription lack {', '.join(missing)}. Ask one of its owners "
            "to do it once, or for the role Contributor on it."
        )
