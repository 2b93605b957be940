"""Check before the first write everything that can make a provision fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nbtoolkit.azure.arm import permissions, resource_providers
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_providers import REQUIRED_PROVIDERS, ResourceProvider
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.prices import price_text
from nbtoolkit.azure.capacity.quota import QuotaHeadroom, quota_headroom
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import or_none
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.provisioning.checks import Preflight
from nbtoolkit.provisioning.checks.capacity import check_memory, check_quota
from nbtoolkit.provisioning.checks.permissions import check_group, check_subscription
from nbtoolkit.provisioning.checks.resources import (
    check_providers,
    check_resources,
    check_storage,
    check_subscription_state,
    not_checked,
    unavailable_name,
)
from nbtoolkit.provisioning.discovery import discover
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.provisioning.validation import engine_warnings
from nbtoolkit.utils.threads import query_all
from nbtoolkit.workspace import Workspace

__all__ = ["Preflight", "preflight"]


def preflight(
    settings: ProvisionSettings,
    existing: ExistingResources | None = None,
    cloud: Cloud | None = None,
    *,
    workspace: Workspace | None = None,
    added: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Preflight:
    """Return the blockers and warnings of a provision; writes nothing and wakes no app.

    ``existing`` is read from Azure if it is not given; ``added`` is the workload profile that its environment
    would get. Costs about nine requests in the time of two; a query that Azure refuses becomes a warning.
    Raises :class:`NotSignedIn`, and :class:`AzureFailed` if Azure cannot be reached.
    """
    workspace, cloud, progress = workspace or Workspace.find(), cloud or Cloud.shared(), progress or SILENT()
    if existing is None:
        discovery = discover(settings.completed(workspace), cloud, progress, workspace)
        settings, existing = discovery.settings, discovery.existing
    progress.phase("Checking permissions, providers and quotas")
    answers = query_all(_queries(settings, existing, workspace, cloud), progress)
    found = Preflight(settings, existing, added_profile=added)
    check_subscription_state(found, answers["subscription"])
    check_resources(found)
    providers = map(answers.get, REQUIRED_PROVIDERS)
    check_providers(found, [one for one in providers if isinstance(one, ResourceProvider)])
    _check_permissions(found, answers, cloud, progress)
    if isinstance(quota := answers.get("quota"), QuotaHeadroom):
        check_quota(found, quota)
    if isinstance(unavailable := answers.get("name"), str):
        found.block(unavailable)
    check_storage(found)
    for sentence in engine_warnings(settings):
        found.warn(sentence)
    check_memory(found, workspace, cloud, progress)
    found.facts["price"] = str(answers["price"])
    for name, answer in answers.items():
        if isinstance(answer, AzureFailed) and name != "subscription":
            found.warn(not_checked(answer))
    return found


def _queries(
    settings: ProvisionSettings, existing: ExistingResources, workspace: Workspace, cloud: Cloud
) -> dict[str, Callable[[], Any]]:
    names, region, hardware = existing.names, settings.location, GpuProfile.by_name(settings.gpu)
    subscription = names.subscription
    # that of logs only for a new workspace
    logs = existing.environment is None and existing.log_analytics is None
    queries: dict[str, Callable[[], Any]] = {
        "subscription": lambda: or_none(
            f"read the subscription {subscription}",
            lambda: cloud.subscriptions().subscriptions.get(subscription),
        ),
        **{
            namespace: partial(resource_providers.get_provider, cloud, subscription, namespace)
            for namespace in REQUIRED_PROVIDERS
            if logs or namespace != "Microsoft.OperationalInsights"
        },
        "price": lambda: price_text(cloud, hardware, region, workspace.cache),
    }
    if existing.group is not None:
        queries["permissions"] = lambda: permissions.group_permissions(
            cloud, subscription, names.resource_group
        )
    if region:
        queries["quota"] = lambda: quota_headroom(cloud, subscription, region, hardware)
    if existing.storage_account is None:
        queries["name"] = lambda: unavailable_name(cloud, names)
    return queries


def _check_permissions(found: Preflight, answers: dict[str, Any], cloud: Cloud, progress: Progress) -> None:
    """Check the permissions in the group, and if needed in the subscription.

    The answer for the subscription is added to ``answers``.
    """
    if isinstance(in_group := answers.get("permissions"), permissions.Grants):
        check_group(found, in_group)
    creates_group = found.existing.group is None and found.settings.create_resource_group
    if not (found.unregistered or creates_group):
        return
    name, subscription = "permissions in the subscription", found.existing.names.subscription
    answers |= query_all({name: lambda: permissions.subscription_permissions(cloud, subscription)}, progress)
    if isinstance(in_subscription := answers[name], permissions.Grants):
        check_subscription(found, in_subscription, creates_group=creates_group)
        if creates_group:
            check_group(found, in_subscription)
