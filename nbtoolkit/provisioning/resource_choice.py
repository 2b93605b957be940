"""Which workload profile of the environment the app runs on, and whether one has to be added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbtoolkit.azure.arm.create import free_profile_name
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.provisioning.settings import ProvisionSettings


@dataclass(frozen=True)
class Machine:
    """The profile's name; ``added`` is the profile that an existing environment lacks; or a ``blocker``."""

    profile: str
    added: Mapping[str, str] | None = None
    blocker: str | None = None


def machine_of(settings: ProvisionSettings, existing: ExistingResources, default_name: str) -> Machine:
    """Find the profile by its type, as its name is anybody's choice; ``default_name`` is the template's."""
    hardware = GpuProfile.by_name(settings.gpu)
    wanted = settings.workload_profile
    if existing.environment is None:
        return Machine(wanted or default_name)
    name = existing.names.environment
    profiles = existing.profiles
    if not profiles:
        return Machine(
            wanted or default_name,
            blocker=f"The environment {name} is of the Consumption-only kind, which takes no GPU and cannot "
            "be changed: choose another environment_name, and a new one is created.",
        )
    fitting = [
        str(one["name"]) for one in profiles if one.get("workloadProfileType") == hardware.profile_type
    ]
    if wanted and wanted not in fitting:
        there = ", ".join(f"{one['name']} ({one['workloadProfileType']})" for one in profiles)
        return Machine(
            wanted,
            blocker=f"The environment {name} has no profile {wanted!r} of type {hardware.profile_type}: it "
            f"has {there}. Leave workload_profile blank, or choose one that fits.",
        )
    if fitting:
        return Machine(wanted or fitting[0])
    if not hardware.serverless:
        return Machine(
            default_name,
            blocker=f"The environment {name} has no {hardware.profile_type}, and a dedicated GPU comes only "
            "with a new environment: choose gpu='A100' (serverless), or another environment_name.",
        )
    free = free_profile_name(default_name, profiles)
    return Machine(free, {"name": free, "workloadProfileType": hardware.profile_type})
