"""How many GPUs and environments a subscription may still have in a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import Hardware
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors

ENVIRONMENTS = "ManagedEnvironmentCount"


@dataclass(frozen=True)
class Usage:
    """How much of one quota is in use."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        """What is left; never below 0."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True)
class QuotaHeadroom:
    """What a region still has for one kind of machine.

    ``gpus``, ``gpu_environments`` and ``environments`` are None where Azure names no such quota: unknown for
    a machine with a GPU, unlimited for one without.
    """

    hardware: Hardware
    region: str
    gpus: Usage | None
    gpu_environments: Usage | None
    environments: Usage | None

    @property
    def limit(self) -> int | None:
        """GPUs that the subscription may have in the region; None where unknown."""
        return self.gpus.limit if self.gpus else None

    @property
    def used(self) -> int | None:
        """GPUs in use; None where unknown."""
        return self.gpus.used if self.gpus else None

    @property
    def free(self) -> int | None:
        """GPUs left; None where unknown, and where none is needed."""
        return self.gpus.free if self.gpus else None

    @property
    def environments_free(self) -> int | None:
        """Environments with such a GPU profile that may still be made; None where unknown."""
        return self.gpu_environments.free if self.gpu_environments else None

    def has(self, gpus: int) -> bool | None:
        """Tell whether so many more GPUs are left; None where it is not known."""
        if gpus <= 0 or not self.hardware.has_gpu:
            return True
        return None if self.gpus is None else self.gpus.free >= gpus

    def __str__(self) -> str:
        if not self.hardware.has_gpu:
            return "no GPU needed"
        if self.gpus is None:
            return f"GPU quota ({self.hardware.label}) in {self.region}: unknown"
        return (
            f"GPU quota ({self.hardware.label}) in {self.region}: "
            f"{self.gpus.used} of {self.gpus.limit} in use, {self.gpus.free} free"
        )


def free_gpus(cloud: Cloud, subscription: str, region: str, hardware: Hardware) -> QuotaHeadroom:
    """Return what is left for ``hardware`` in a region. One request; raises :class:`AzureFailed`."""
    found = usages(cloud, subscription, region)
    return QuotaHeadroom(
        hardware=hardware,
        region=region_name(region),
        gpus=found.get(hardware.gpu_usage or ""),
        gpu_environments=found.get(hardware.environment_usage or ""),
        environments=found.get(ENVIRONMENTS),
    )


def usages(cloud: Cloud, subscription: str, region: str) -> Mapping[str, Usage]:
    """Return every quota of Container Apps in a region by its name. One request."""
    where = region_name(region)
    with translate_errors(f"read the quotas of Container Apps in {where}"):
        entries: list[Any] = list(cloud.containerapps(subscription).usages.list(where))
    return {
        entry.name.value: Usage(int(entry.limit or 0), int(entry.current_value or 0))
        for entry in entries
        if entry.name is not None and entry.name.value
    }


def region_name(region: str) -> str:
    """Return a region as ARM's paths spell it: ``"West US 3"`` is ``westus3``."""
    return "".join(region.split()).lower()
