"""List the subscriptions, resource groups and regions that a form offers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtoolkit.azure.arm.resource_providers import get_provider
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.capacity.quota import list_usages, normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_all_cancellable, run_cancellable

USABLE = frozenset({"Enabled", "PastDue"})
"""States of a subscription in which resources can be created."""
GPU_REGIONS = ("westus3", "swedencentral", "australiaeast", "westus", "westeurope")
"""Regions with serverless GPUs in June 2025: their quotas are read by default."""


@dataclass(frozen=True)
class Subscription:
    """One subscription of the signed-in account."""

    id: str
    name: str
    state: str
    tenant: str

    @property
    def usable(self) -> bool:
        """Return whether resources can be created in it."""
        return self.state in USABLE

    def __str__(self) -> str:
        return f"{self.name} ({self.id}){'' if self.usable else f': {self.state.lower()}'}"


@dataclass(frozen=True)
class ResourceGroup:
    """One resource group of a subscription."""

    name: str
    region: str

    def __str__(self) -> str:
        return f"{self.name} ({self.region})"


@dataclass(frozen=True)
class Region:
    """A region with Container Apps.

    ``gpus`` maps GPU profiles to the number of GPUs that the subscription has left there. A profile whose
    quota was not read, or that Azure does not list, is missing from it.
    """

    name: str
    title: str
    gpus: dict[str, int]

    def __str__(self) -> str:
        free = ", ".join(f"{count} × {profile}" for profile, count in self.gpus.items() if count)
        return f"{self.title} ({self.name}){f': {free}' if free else ''}"


def subscriptions(cloud: Cloud | None = None) -> list[Subscription]:
    """Return the account's subscriptions, the usable ones first, then by name.

    Raises :class:`NotSignedIn`, and :class:`AzureFailed` if there is none or none can be used.
    """
    client = (cloud or Cloud.shared()).subscriptions()
    with translate_errors("list your subscriptions"):
        entries: list[Any] = list(client.subscriptions.list())
    found = [
        Subscription(
            id=str(entry.subscription_id),
            name=str(entry.display_name or entry.subscription_id),
            state=str(getattr(entry.state, "value", entry.state) or "unknown"),
            tenant=str(entry.tenant_id or ""),
        )
        for entry in entries
    ]
    if not found:
        raise AzureFailed(
            "This account has access to no subscription.",
            next_step="sign in with another account or tenant (az login --tenant ...), "
            "or ask for a role in a subscription",
            code="NoSubscription",
        )
    if not any(one.usable for one in found):
        states = ", ".join(f"{one.name} is {one.state.lower()}" for one in found)
        raise AzureFailed(
            f"No subscription of this account can be used: {states}.",
            next_step="enable one in the portal (Subscriptions), or sign in with another account",
            code="SubscriptionDisabled",
        )
    return sorted(found, key=lambda one: (not one.usable, one.name.casefold()))


def resource_groups(subscription: str, cloud: Cloud | None = None) -> list[ResourceGroup]:
    """Return a subscription's resource groups by name; may be empty. Raises :class:`AzureFailed`."""
    client: Any = (cloud or Cloud.shared()).resources(subscription)
    with translate_errors(f"list the resource groups of the subscription {subscription}"):
        found = [
            ResourceGroup(str(entry.name), normalize_region(str(entry.location)))
            for entry in client.resource_groups.list()
        ]
    return sorted(found, key=lambda one: one.name.casefold())


def regions(
    subscription: str,
    cloud: Cloud | None = None,
    *,
    quota_regions: tuple[str, ...] = GPU_REGIONS,
    progress: Progress | None = None,
) -> list[Region]:
    """Return the regions that offer Container Apps; those with most free GPUs first.

    Two requests for the list, and one for the quotas of each region in ``quota_regions``, sent at the same
    time. Raises :class:`AzureFailed`.
    """
    cloud = cloud or Cloud.shared()
    provider = run_cancellable(progress, lambda: get_provider(cloud, subscription, "Microsoft.App"))
    offered = provider.regions.get("managedenvironments", frozenset())
    with translate_errors(f"list the regions of the subscription {subscription}"):
        locations: list[Any] = run_cancellable(
            progress, lambda: list(cloud.subscriptions().subscriptions.list_locations(subscription))
        )
    titles = {str(one.name): str(one.display_name or one.name) for one in locations}
    names = [name for name in titles if not offered or name in offered]
    wanted = set(map(normalize_region, quota_regions))
    futures = run_all_cancellable(
        progress, {name: partial(_free_gpus, cloud, subscription, name) for name in names if name in wanted}
    )
    gpus = {name: future.result() for name, future in futures.items()}
    found = [Region(name, titles[name], gpus.get(name, {})) for name in names]
    return sorted(found, key=lambda one: (-sum(one.gpus.values()), one.title))


def _free_gpus(cloud: Cloud, subscription: str, region: str) -> dict[str, int]:
    try:
        usages = list_usages(cloud, subscription, region)
    except NotSignedIn:
        raise
    except AzureFailed:
        return {}  # a list without free GPUs is still useful; preflight reads the quota again and reports why
    return {
        profile.name: usages[profile.gpu_quota].free
        for profile in GPU_PROFILES.values()
        if profile.gpu_quota and profile.gpu_quota in usages
    }
