"""Machines of workload profiles, the subscription's quota, and the replicas that use GPUs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import regions
from .app_versions import headers, refusal
from .http import Response

if TYPE_CHECKING:
    from .resource_kind import Call

LIMITS = {
    "ManagedEnvironmentCount": 40,
    "SubscriptionNCA100Gpus": 0,
    "SessionPools": 50,
    "SubscriptionConsumptionNCA100Gpus": 2,
    "SubscriptionConsumptionT4Gpus": 8,
    "ConsumptionNCA100GpusEnvCount": 1,
    "ConsumptionT4GpusEnvCount": 2,
}
"""The default limits of a subscription in a region, as recorded."""


@dataclass(frozen=True)
class Machine:
    """A type of workload profile: limits of one replica, and its quotas."""

    cpu: float
    memory: float
    gpus: int = 0
    serverless: bool = False
    usage: str | None = None
    environments: str | None = None


MACHINES: dict[str, Machine] = {
    "Consumption": Machine(4, 8, serverless=True),
    **{f"D{n}": Machine(n, 4 * n) for n in (4, 8, 16, 32)},
    **{f"E{n}": Machine(n, 8 * n) for n in (4, 8, 16, 32)},
    "NC24-A100": Machine(24, 220, 1, usage="SubscriptionNCA100Gpus"),
    "NC48-A100": Machine(48, 440, 2, usage="SubscriptionNCA100Gpus"),
    "NC96-A100": Machine(96, 880, 4, usage="SubscriptionNCA100Gpus"),
    "Consumption-GPU-NC24-A100": Machine(
        24, 220, 1, True, "SubscriptionConsumptionNCA100Gpus", "ConsumptionNCA100GpusEnvCount"
    ),
    "Consumption-GPU-NC8as-T4": Machine(
        8, 56, 1, True, "SubscriptionConsumptionT4Gpus", "ConsumptionT4GpusEnvCount"
    ),
}


class Quota:
    """The quota of the subscription in each region, and the replicas that use GPUs."""

    def __init__(self, environments: Callable[[str], Iterable[Mapping[str, Any]]]) -> None:
        self.limits = dict(LIMITS)
        """By name; tests change them."""
        self._environments = environments
        self._held: dict[str, tuple[str, str, str]] = {}
        self._lock = threading.Lock()

    def used(self, region: str, name: str) -> int:
        """How many are in use now."""
        environments = list(self._environments(region))
        if name == "ManagedEnvironmentCount":
            return len(environments)
        profiles = [profiles_of(environment) for environment in environments]
        if name.endswith("EnvCount"):
            return sum(any(MACHINES[type].environments == name for type in types(one)) for one in profiles)
        if name == "SubscriptionNCA100Gpus":
            return sum(dedicated_gpus(one) for one in profiles)
        with self._lock:
            return sum(held[:2] == (region, name) for held in self._held.values())

    def take(self, replica: str, region: str, profile: Mapping[str, Any], environment: str) -> bool:
        """Assign a free GPU to a replica; returns True for profiles without GPU."""
        machine = MACHINES[profile["workloadProfileType"]]
        if not machine.gpus or machine.usage is None:
            return True
        with self._lock:
            if replica in self._held:
                return True
            if machine.serverless:
                taken = sum(held[:2] == (region, machine.usage) for held in self._held.values())
                room = self.limits[machine.usage]
            else:
                taken = sum(held == (region, machine.usage, environment) for held in self._held.values())
                room = int(profile.get("maximumCount") or 0) * machine.gpus
            if taken >= room:
                return False
            self._held[replica] = (region, machine.usage, environment)
            return True

    def listing(self, call: Call) -> Response:
        """GET usages of a region (without `unit`, unlike the specification)."""
        region = call.id.names[0].lower()
        listed = [entry(name, self.used(region, name), limit) for name, limit in self.limits.items()]
        return Response.of({"value": listed}, headers=headers())

    def release_gpu(self, replica: str) -> None:
        """Release the GPU of an ended replica."""
        with self._lock:
            self._held.pop(replica, None)

    def require(self, region: str, name: str, count: int) -> None:
        """Refuse a use above the limit of a region."""
        limit = self.limits[name]
        if self.used(region, name) + count <= limit:
            return
        gpus = name.endswith("Gpus")
        raise refusal(
            400,
            "MaxRegionalQuotaExceeded" if gpus else "MaxNumberOfRegionalEnvironmentsInSubExceeded",
            f"The subscription cannot have more than {limit} {name} in {regions.display(region)}.",
        )


def entry(name: str, used: int, limit: int) -> dict[str, Any]:
    """Return one usage; Azure derives the localized name from the name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=\d)", " ", name)
    return {
        "name": {"value": name, "localizedValue": words},
        "usage": used,
        "currentValue": used,
        "limit": limit,
    }


def profiles_of(environment: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The workload profiles of an environment."""
    return environment["properties"].get("workloadProfiles") or []


def types(profiles: Iterable[Mapping[str, Any]]) -> list[str]:
    """The profiles' types that are known here."""
    return [one["workloadProfileType"] for one in profiles if one["workloadProfileType"] in MACHINES]


def dedicated_gpus(profiles: Iterable[Mapping[str, Any]]) -> int:
    """Return the maximum number of GPUs of the dedicated profiles."""
    total = 0
    for profile in profiles:
        machine = MACHINES.get(profile["workloadProfileType"])
        if machine and machine.gpus and not machine.serverless:
            total += machine.gpus * int(profile.get("maximumCount") or 0)
    return total
