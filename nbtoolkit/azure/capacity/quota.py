"""How many GPUs and environments a subscription has left in a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors

ENVIRONMENTS = "ManagedEnvironmentCount"
"""Name of the quota of environments."""


@dataclass(frozen=True)
class QuotaUsage:
    """The limit and the use of one quota."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        """The rest; never below 0."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class QuotaHeadroom:
    """What is left of the quotas of one GPU profile in a region.

    ``gpus``, ``gpu_environments`` and ``environments`` are None if Azure lists no such quota: not known for
    a profile with a GPU, unlimited for one without.
    """

    profile: GpuProfile
    region: str
    gpus: QuotaUsage | None
    gpu_environments: QuotaUsage | None
    environments: QuotaUsage | None

    def has(self, gpus: int) -> bool | None:
        """Return whether so many more GPUs are left; None if not known."""
        if gpus <= 0 or not self.profile.has_gpu:
            return True
        return None if self.gpus is None else self.gpus.free >= gpus

    def __str__(self) -> str:
        if not self.profile.has_gpu:
            return "no GPU needed"
        quota = f"GPU quota ({self.profile.label}) in {self.region}"
        if self.gpus is None:
            return f"{quota}: unknown"
        return f"{quota}: {self.gpus.used} of {self.gpus.limit} in use, {self.gpus.free} free"


def quota_headroom(cloud: Cloud, subscription: str, region: str, profile: GpuProfile) -> QuotaHeadroom:
    """Return what is left for ``profile`` in a region. One request; raises :class:`AzureFailed`."""
    usages = list_usages(cloud, subscription, region)
    return QuotaHeadroom(
        profile=profile,
        region=normalize_region(region),
        gpus=usages.get(profile.gpu_quota or ""),
        gpu_environments=usages.get(profile.environment_quota or ""),
        environments=usages.get(ENVIRONMENTS),
    )


def list_usages(cloud: Cloud, subscription: str, region: str) -> Mapping[str, QuotaUsage]:
    """Return all quotas of Container Apps in a region, by name. One request."""
    name = normalize_region(region)
    with translate_errors(f"read the quotas of Container Apps in {name}"):
        entries: list[Any] = list(cloud.containerapps(subscription).usages.list(name))
    return {
        entry.name.value: QuotaUsage(int(entry.limit or 0), int(entry.current_value or 0))
        for entry in entries
        if entry.name is not None and entry.name.value
    }


def normalize_region(region: str) -> str:
    """Return a region as ARM's paths spell it: ``"West US 3"`` is ``westus3``."""
    return "".join(region.split()).lower()
