"""The machines that a container app can run on: the GPU profiles of Container Apps as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nbtoolkit.errors import InvalidSettings


@dataclass(frozen=True)
class Meter:
    """What a running replica is billed for: a meter of the public price list, and how many of its units."""

    name: str
    amount: float


@dataclass(frozen=True)
class Hardware:
    """One choice of machine, as the ``gpu`` parameter names it.

    ``profile_type`` is the workload profile's type in Azure. ``memory`` is in GiB and so is ``vram``: what a
    program can use of one GPU, which is less than the number on the box. ``gpu_usage`` and
    ``environment_usage`` are the names of the quotas that it counts against, None where there is none.
    Serverless machines are billed per second while a replica runs, dedicated ones per hour while the
    profile holds a machine.
    """

    name: str
    label: str
    profile_type: str
    serverless: bool
    vcpu: int
    memory: int
    gpus: int
    vram: float
    gpu_usage: str | None
    environment_usage: str | None
    meters: tuple[Meter, ...]

    @property
    def has_gpu(self) -> bool:
        """Tell whether there is a GPU at all."""
        return self.gpus > 0

    @classmethod
    def named(cls, name: str) -> Hardware:
        """Return the machine of this name; raises :class:`InvalidSettings` naming those there are."""
        found = HARDWARE.get(name)
        if found is None:
            raise InvalidSettings(
                f"gpu is {name!r}, which is no machine of Container Apps that nbtoolkit knows.",
                next_step=f"choose one of {', '.join(HARDWARE)}",
            )
        return found

    def __str__(self) -> str:
        return self.label


def _serverless(gpu: str, vcpu: int, memory: int) -> tuple[Meter, ...]:
    return (Meter(gpu, 1), *_consumption(vcpu, memory))


def _consumption(vcpu: int, memory: int) -> tuple[Meter, ...]:
    return (Meter("Standard vCPU Active Usage", vcpu), Meter("Standard Memory Active Usage", memory))


_ALL = (
    Hardware(
        name="A100",
        label="A100, 80 GB, serverless",
        profile_type="Consumption-GPU-NC24-A100",
        serverless=True,
        vcpu=24,
        memory=220,
        gpus=1,
        vram=79.0,
        gpu_usage="SubscriptionConsumptionNCA100Gpus",
        environment_usage="ConsumptionNCA100GpusEnvCount",
        meters=_serverless("Standard NC A100 v4 GPU Usage", 24, 220),
    ),
    Hardware(
        name="T4",
        label="T4, 16 GB, serverless",
        profile_type="Consumption-GPU-NC8as-T4",
        serverless=True,
        vcpu=8,
        memory=56,
        gpus=1,
        vram=14.5,
        gpu_usage="SubscriptionConsumptionT4Gpus",
        environment_usage="ConsumptionT4GpusEnvCount",
        meters=_serverless("Standard NC T4 v3 GPU Usage", 8, 56),
    ),
    Hardware(
        name="dedicated-A100",
        label="A100, 80 GB, dedicated",
        profile_type="NC24-A100",
        serverless=False,
        vcpu=24,
        memory=220,
        gpus=1,
        vram=79.0,
        gpu_usage="SubscriptionNCA100Gpus",
        environment_usage=None,
        meters=(
            Meter("Dedicated GPU Usage", 1),
            Meter("Dedicated vCPU Usage", 24),
            Meter("Dedicated Memory Usage", 220),
            Meter("Dedicated Plan Management", 1),
        ),
    ),
    Hardware(
        name="none",
        label="no GPU, 4 vCPU",
        profile_type="Consumption",
        serverless=True,
        vcpu=4,
        memory=8,
        gpus=0,
        vram=0.0,
        gpu_usage=None,
        environment_usage=None,
        meters=_consumption(4, 8),
    ),
)

HARDWARE: Mapping[str, Hardware] = MappingProxyType({hardware.name: hardware for hardware in _ALL})
"""All machines, by the value of the ``gpu`` parameter."""
