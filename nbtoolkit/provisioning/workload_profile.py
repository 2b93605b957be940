"""Choose the workload profile of the environment that the app runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbtoolkit.azure.arm.create import free_profile_name
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.provisioning.settings import ProvisionSettings


@dataclass(frozen=True)
class ProfileChoice:
    """The profile's name; ``added`` if the environment lacks it; or a ``blocker``."""

    profile: str
    added: Mapping[str, str] | None = None
    blocker: str | None = None


def choose_profile(
    settings: ProvisionSettings, existing: ExistingResources, default_name: str
) -> ProfileChoice:
    """Find a profile by its type, as its name is arbitrary; ``default_name`` is the template's."""
    hardware = GpuProfile.by_name(settings.gpu)
    chosen = settings.workload_profile
    if existing.environment is None:
        return ProfileChoice(chosen or default_name)
    environment, profiles = existing.names.environment, existing.profiles
    if not profiles:
        return ProfileChoice(
            chosen or default_name,
            blocker=f"The environment {environment} is of the type Consumption only: it cannot run a GPU and "
            "cannot be changed. Choose another environment_name, and a new one is created.",
        )
    fitting = [
        str(one["name"]) for one in profiles if one.get("workloadProfileType") == hardware.profile_type
    ]
    if chosen and chosen not in fitting:
        listed = ", ".join(f"{one['name']} ({one['workloadProfileType']})" for one in profiles)
        return ProfileChoice(
            chosen,
            blocker=f"The environment {environment} has no profile {chosen!r} of type "
            f"{hardware.profile_type}: it has {listed}. Leave workload_profile blank, or choose one that "
            "fits.",
        )
    if fitting:
        return ProfileChoice(chosen or fitting[0])
    if not hardware.serverless:
        return ProfileChoice(
            default_name,
            blocker=f"The environment {environment} has no {hardware.profile_type}, and a dedicated GPU is "
            "possible only in a new environment: choose gpu='A100' (serverless), or another "
            "environment_name.",
        )
    free = free_profile_name(default_name, profiles)
    return ProfileChoice(free, {"name": free, "workloadProfileType": hardware.profile_type})
