"""Check everything that could make a provision fail, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbtoolkit.azure.arm import permissions
from nbtoolkit.azure.arm import resource_providers as providers
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_providers import REQUIRED_PROVIDERS, ResourceProvider
from nbtoolkit.azure.arm.subscriptions import USABLE
from nbtoolkit.azure.capacity import quota
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.prices import Price, price_of, unknown_price_reason
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import or_none
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning.checks import permissions as rights
from nbtoolkit.provisioning.checks.engine import check_engine
from nbtoolkit.provisioning.checks.findings import Findings
from nbtoolkit.provisioning.checks.memory_fit import check_base
from nbtoolkit.provisioning.checks.provisioning_state import check_standing
from nbtoolkit.provisioning.checks.quota import check_room
from nbtoolkit.provisioning.checks.result import Preflight
from nbtoolkit.provisioning.checks.storage import check_account, name_taken
from nbtoolkit.provisioning.discovery import look
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.threads import query_all
from nbtoolkit.workspace import Workspace

__all__ = ["Preflight", "preflight"]

_NOT_YOURS = (400, 403, 404)
"""How Azure answers about a subscription that is none, or is none of yours."""
_TYPES = {
    "Microsoft.App": "managedEnvironments",
    "Microsoft.Storage": "storageAccounts",
    "Microsoft.OperationalInsights": "workspaces",
}


def preflight(
    settings: ProvisionSettings,
    existing: ExistingResources | None = None,
    cloud: Cloud | None = None,
    *,
    workspace: Workspace | None = None,
    added: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Preflight:
    """Return what stands in the way of a provision; nothing is written, and no app is woken.

    ``existing`` is what there is (looked for where it is not given), ``added`` the workload profile that its
    environment would get. Costs about nine requests in the time of two; a question that Azure refuses to
    answer becomes a warning. Raises :class:`NotSignedIn`, and :class:`AzureFailed` where Azure cannot be
    reached.
    """
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    if existing is None:
        settings, existing = look(settings.completed(workspace), cloud, progress, workspace)
    progress.phase("Checking permissions, providers and quotas")
    hardware = GpuProfile.by_name(settings.gpu)
    answers = query_all(_questions(settings, existing, hardware, workspace, cloud), progress)
    found = Findings()
    _check_subscription(found, settings, answers["subscription"])
    found.add(check_standing(existing, settings.location))
    unregistered = _check_providers(found, settings, answers)
    _check_rights(found, settings, existing, bool(added), unregistered, answers, cloud, progress)
    room, price = answers.get("quota"), answers["price"]
    if isinstance(room, QuotaHeadroom):
        found.add(check_room(settings, existing, room, adds_profile=bool(added)))
    if isinstance(taken := answers.get("name"), str):
        found.block(taken)
    found.add(check_account(existing, settings.location))
    found.add(check_engine(settings))
    model, fitting = check_base(settings, existing, workspace, cloud, progress)
    found.add(model)
    found.facts["price"] = (
        str(price)
        if isinstance(price, Price)
        else unknown_price_reason(hardware, settings.location, workspace.cache)
    )
    for name, answer in answers.items():
        if isinstance(answer, AzureFailed) and name != "subscription":
            found.warn(f"{answer.message} That was not checked; {answer.next_step}.")
    return Preflight(
        settings=settings,
        existing=existing,
        blockers=tuple(found.blockers),
        warnings=tuple(found.warnings),
        facts=found.facts,
        added_profile=added,
        unregistered=tuple(unregistered),
        room=room if isinstance(room, QuotaHeadroom) else None,
        fit=fitting,
    )


def _questions(
    settings: ProvisionSettings,
    existing: ExistingResources,
    hardware: GpuProfile,
    workspace: Workspace,
    cloud: Cloud,
) -> dict[str, Callable[[], Any]]:
    names, where = existing.names, settings.location
    sub, cache = names.subscription, workspace.cache
    asked: dict[str, Callable[[], Any]] = {
        "subscription": lambda: or_none(
            f"read the subscription {sub}", lambda: cloud.subscriptions().subscriptions.get(sub)
        ),
        **{namespace: _provider(cloud, sub, namespace) for namespace in _needed(existing)},
        "price": lambda: price_of(cloud, hardware, where, cache) if where else None,
    }
    if existing.group is not None:
        asked["rights"] = lambda: permissions.group_permissions(cloud, sub, names.resource_group)
    if where:
        asked["quota"] = lambda: quota.quota_headroom(cloud, sub, where, hardware)
    if existing.storage_account is None:
        asked["name"] = lambda: name_taken(cloud, names)
    return asked


def _needed(existing: ExistingResources) -> list[str]:
    """Return the providers of what is created or changed; that of logs only for a workspace to be made."""
    logs = existing.environment is None and existing.log_analytics is None
    return [one for one in REQUIRED_PROVIDERS if logs or one != "Microsoft.OperationalInsights"]


def _provider(cloud: Cloud, subscription: str, namespace: str) -> Callable[[], ResourceProvider]:
    return lambda: providers.get_provider(cloud, subscription, namespace)


def _check_subscription(found: Findings, settings: ProvisionSettings, subscription: Any) -> None:
    if isinstance(subscription, AzureFailed) and vars(subscription).get("status") not in _NOT_YOURS:
        found.warn(f"{subscription.message} That was not checked; {subscription.next_step}.")
        return
    if subscription is None or isinstance(subscription, AzureFailed):
        found.block(
            f"There is no subscription {settings.subscription} that you may see: choose one from the list, "
            "or sign in with the account that it belongs to."
        )
        return
    state = str(getattr(subscription.state, "value", subscription.state))
    found.facts["subscription"] = f"{subscription.display_name} ({settings.subscription})"
    if state not in USABLE:
        found.block(
            f"The subscription {subscription.display_name} is {state.lower()}, so nothing can be created: "
            "choose another one, or enable it in the portal."
        )


def _check_providers(found: Findings, settings: ProvisionSettings, answers: Mapping[str, Any]) -> list[str]:
    location = settings.location
    known = [answers[name] for name in REQUIRED_PROVIDERS if isinstance(answers.get(name), ResourceProvider)]
    missing = [
        one.namespace for one in known if location and one.offers(_TYPES[one.namespace], location) is False
    ]
    if missing:
        verb = "does" if len(missing) == 1 else "do"
        found.block(
            f"{', '.join(missing)} {verb} not exist in {location}: choose another region, such as westus3 or "
            "swedencentral."
        )
    unregistered = [one.namespace for one in known if not one.registered]
    if unregistered and not settings.register_providers:
        commands = "; ".join(f"az provider register -n {namespace}" for namespace in unregistered)
        found.block(
            f"The subscription is not registered with {', '.join(unregistered)}: set register_providers, or "
            f"run {commands}. It costs nothing and takes about a minute."
        )
    elif known:
        found.facts["providers"] = (
            f"{', '.join(unregistered)} will be registered" if unregistered else "all registered"
        )
    return unregistered


def _check_rights(
    found: Findings,
    settings: ProvisionSettings,
    existing: ExistingResources,
    adds_profile: bool,
    unregistered: list[str],
    answers: dict[str, Any],
    cloud: Cloud,
    progress: Progress,
) -> None:
    names = existing.names
    actions = rights.needed(existing, adds_profile=adds_profile)
    granted = answers.get("rights")
    if isinstance(granted, permissions.Grants):
        found.add(rights.check_group(granted, actions, names.resource_group))
    creates_group = existing.group is None and settings.create_resource_group
    if not (unregistered or creates_group):
        return
    asked = {"rights there": lambda: permissions.subscription_permissions(cloud, names.subscription)}
    answers |= query_all(asked, progress)
    if isinstance(wide := answers["rights there"], permissions.Grants):
        found.add(rights.check_subscription(wide, unregistered, creates_group=creates_group))
        if creates_group:
            found.add(rights.check_group(wide, actions, names.resource_group))
