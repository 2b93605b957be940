"""The GPU profiles of Container Apps: the hardware that a container app can run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nbtoolkit.errors import InvalidSettings


@dataclass(frozen=True)
class GpuProfile:
    """One value of the ``gpu`` parameter.

    ``profile_type`` is the workload profile's type in Azure. ``memory`` and ``vram`` are in GiB; ``vram`` is
    what a program can use of one GPU, which is less than its nominal size. ``gpu_quota`` and
    ``environment_quota`` are the names of its quotas, None if there is none. Serverless profiles are billed
    per second while a replica runs, dedicated ones per hour while the profile holds a machine. ``meters``
    are those of the public price list that bill a running replica, with the number of their units.
    """

    name: str
    label: str
    profile_type: str
    vcpu: int
    memory: int
    vram: float
    meters: Mapping[str, float]
    gpus: int = 1
    serverless: bool = True
    gpu_quota: str | None = None
    environment_quota: str | None = None

    @property
    def has_gpu(self) -> bool:
        """Return whether there is a GPU at all."""
        return self.gpus > 0

    @property
    def has_bfloat16(self) -> bool:
        """Return whether it computes in bfloat16; a T4 does not, and a CPU may emulate it slowly."""
        return "A100" in self.name

    @classmethod
    def by_name(cls, name: str) -> GpuProfile:
        """Return the profile of this name; raises :class:`InvalidSettings` that lists all names."""
        found = GPU_PROFILES.get(name)
        if found is None:
            raise InvalidSettings(
                f"gpu is {name!r}, which is not a GPU profile of Container Apps that nbtoolkit supports.",
                next_step=f"choose one of {', '.join(GPU_PROFILES)}",
            )
        return found

    def __str__(self) -> str:
        return self.label


def _consumption(vcpu: int, memory: int) -> dict[str, float]:
    return {"Standard vCPU Active Usage": vcpu, "Standard Memory Active Usage": memory}


_PROFILES = (
    GpuProfile(
        name="A100",
        label="A100, 80 GB, serverless",
        profile_type="Consumption-GPU-NC24-A100",
        vcpu=24,
        memory=220,
        vram=79.0,
        gpu_quota="SubscriptionConsumptionNCA100Gpus",
        environment_quota="ConsumptionNCA100GpusEnvCount",
        meters={"Standard NC A100 v4 GPU Usage": 1, **_consumption(24, 220)},
    ),
    GpuProfile(
        name="T4",
        label="T4, 16 GB, serverless",
        profile_type="Consumption-GPU-NC8as-T4",
        vcpu=8,
        memory=56,
        vram=14.5,
        gpu_quota="SubscriptionConsumptionT4Gpus",
        environment_quota="ConsumptionT4GpusEnvCount",
        meters={"Standard NC T4 v3 GPU Usage": 1, **_consumption(8, 56)},
    ),
    GpuProfile(
        name="dedicated-A100",
        label="A100, 80 GB, dedicated",
        profile_type="NC24-A100",
        serverless=False,
        vcpu=24,
        memory=220,
        vram=79.0,
        gpu_quota="SubscriptionNCA100Gpus",
        meters={
            "Dedicated GPU Usage": 1,
            "Dedicated vCPU Usage": 24,
            "Dedicated Memory Usage": 220,
            "Dedicated Plan Management": 1,
        },
    ),
    GpuProfile(
        name="none",
        label="no GPU, 4 vCPU",
        profile_type="Consumption",
        vcpu=4,
        memory=8,
        gpus=0,
        vram=0.0,
        meters=_consumption(4, 8),
    ),
)

GPU_PROFILES: Mapping[str, GpuProfile] = MappingProxyType({profile.name: profile for profile in _PROFILES})
"""All profiles, by the value of the ``gpu`` parameter."""
