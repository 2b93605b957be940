"""What there is to pick from: subscriptions, resource groups and regions, as small values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtoolkit.azure.arm.resource_providers import provider
from nbtoolkit.azure.capacity.gpu_profiles import HARDWARE
from nbtoolkit.azure.capacity.quota import region_name, usages
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_all_cancellable, run_cancellable

USABLE = frozenset({"Enabled", "PastDue"})
"""States of a subscription in which something can be created."""
GPU_REGIONS = ("westus3", "swedencentral", "australiaeast", "westus", "westeurope")
"""Regions whose quotas are looked at by default: those with serverless GPUs in June 2025."""


@dataclass(frozen=True)
class Subscription:
    """One subscription of the signed-in account."""

    id: str
    name: str
    state: str
    tenant: str

    @property
    def usable(self) -> bool:
        """Tell whether something can be created in it."""
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
    """A region where Container Apps exist.

    ``gpus`` is what the subscription may still have there, by the name of the machine; a machine is missing
    from it where that was not asked for or is not known.
    """

    name: str
    title: str
    gpus: dict[str, int]

    def __str__(self) -> str:
        room = ", ".join(f"{count} × {machine}" for machine, count in self.gpus.items() if count)
        return f"{self.title} ({self.name}){f': {room}' if room else ''}"


def subscriptions(cloud: Cloud | None = None) -> list[Subscription]:
    """Return the account's subscriptions, the usable ones first, then by name.

    Raises :class:`NotSignedIn`, and :class:`AzureFailed` where there is none or none can be used.
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
        raise _nothing(
            "This account sees no subscription.",
            "sign in with another account or tenant (az login --tenant ...), or ask for a role in one",
            "NoSubscription",
        )
    if not any(one.usable for one in found):
        states = ", ".join(f"{one.name} is {one.state.lower()}" for one in found)
        raise _nothing(
            f"No subscription of this account can be used: {states}.",
            "enable one in the portal (Subscriptions), or sign in with another account",
            "SubscriptionDisabled",
        )
    return sorted(found, key=lambda one: (not one.usable, one.name.casefold()))


def resource_groups(subscription: str, cloud: Cloud | None = None) -> list[ResourceGroup]:
    """Return a subscription's resource groups by name; none is an empty list. Raises :class:`AzureFailed`."""
    client: Any = (cloud or Cloud.shared()).resources(subscription)
    with translate_errors(f"list the resource groups of the subscription {subscription}"):
        found = [
            ResourceGroup(str(entry.name), region_name(str(entry.location)))
            for entry in client.resource_groups.list()
        ]
    return sorted(found, key=lambda one: one.name.casefold())


def regions(
    subscription: str,
    cloud: Cloud | None = None,
    *,
    ask: tuple[str, ...] = GPU_REGIONS,
    progress: Progress | None = None,
) -> list[Region]:
    """Return the regions that offer Container Apps; those with most free GPUs first.

    The quotas of the regions in ``ask`` are read, one request each at the same time, beside two for the
    list. Raises :class:`AzureFailed`.
    """
    cloud = cloud or Cloud.shared()
    offered = run_cancellable(progress, lambda: provider(cloud, subscription, "Microsoft.App")).regions.get(
        "managedenvironments", frozenset()
    )
    titles = run_cancellable(progress, lambda: _titles(cloud, subscription))
    names = [name for name in titles if not offered or name in offered]
    wanted = [name for name in names if name in set(map(region_name, ask))]
    asked = run_all_cancellable(
        progress, {name: partial(_room, cloud, subscription, name) for name in wanted}
    )
    room = {name: answer.result() for name, answer in asked.items()}
    listed = [Region(name, titles[name], room.get(name, {})) for name in names]
    return sorted(listed, key=lambda one: (-sum(one.gpus.values()), one.title))


def _titles(cloud: Cloud, subscription: str) -> dict[str, str]:
    with translate_errors(f"list the regions of the subscription {subscription}"):
        entries: list[Any] = list(cloud.subscriptions().subscriptions.list_locations(subscription))
    return {str(entry.name): str(entry.display_name or entry.name) for entry in entries}


def _room(cloud: Cloud, subscription: str, region: str) -> dict[str, int]:
    try:
        found = usages(cloud, subscription, region)
    except NotSignedIn:
        raise
    except AzureFailed:
        return {}  # a list to pick from is better than none; preflight asks again and says why
    return {
        machine.name: found[machine.gpu_usage].free
        for machine in HARDWARE.values()
        if machine.gpu_usage and machine.gpu_usage in found
    }


def _nothing(message: str, next_step: str, code: str) -> AzureFailed:
    return AzureFailed(message, next_step=next_step, code=code)
