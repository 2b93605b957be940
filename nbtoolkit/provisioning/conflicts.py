"""Match the settings with the existing resources: contradictions, and the workload profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.container_apps.managed_app import unsupported_features
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.provisioning.settings import ProvisionSettings


def conflicts(
    settings: ProvisionSettings, existing: ExistingResources, secrets: list[dict[str, Any]]
) -> list[str]:
    """Return a blocker, with the next step, for each contradiction; ``secrets`` are those of the app."""
    names = existing.names
    if existing.group is None and not settings.create_resource_group:
        return [
            f"There is no resource group {names.resource_group} in this subscription: choose one from the "
            "list, or create it with create_resource_group."
        ]
    found: list[str] = []
    region = existing.location
    if existing.environment is not None and settings.location not in ("", region):
        found.append(
            f"The environment {names.environment} is in {region}, and the app must be in the same "
            f"region: leave location blank, or choose another environment_name for {settings.location}."
        )
    storage = existing.environment_storage or {}
    file: Mapping[str, Any] = (storage.get("properties") or {}).get("azureFile") or {}
    mounted = (file.get("accountName"), file.get("shareName"))
    if file and mounted != (names.storage_account, names.file_share):
        found.append(
            f"The storage {names.environment_storage} of the environment mounts another share "
            f"({'/'.join(map(str, mounted))}): choose another environment_storage."
        )
    if existing.app is not None:
        found += _app_conflicts(settings, existing, AppState(existing.app), secrets)
    return found


def _app_conflicts(
    settings: ProvisionSettings, existing: ExistingResources, app: AppState, secrets: list[dict[str, Any]]
) -> list[str]:
    names = existing.names
    if app.environment_id.lower() != names.ids["environment"].lower():
        other = app.environment_id.rpartition("/")[2]
        return [
            f"The app {names.app} exists in another environment ({other}), and an app cannot move: choose "
            "another app, or that environment_name."
        ]
    found: list[str] = []
    if settings.allowed_ip_ranges and app.denied_ip_ranges:
        found.append(
            f"The app {names.app} denies {', '.join(app.denied_ip_ranges)}, and Azure accepts either allowed "
            "or denied addresses: leave allowed_ip_ranges blank to keep these rules, or delete them in the "
            "app's Ingress page."
        )
    if lost := unsupported_features(app, secrets, settings.registry_identity):
        found.append(
            f"The app {names.app} has {', '.join(lost)}, which a provision would remove: remove it in the "
            "portal if it is not needed any more, or choose another app, which creates a new one."
        )
    return found


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


def free_profile_name(name: str, profiles: Sequence[Mapping[str, Any]]) -> str:
    """Return ``name``, with a number if an existing profile has that name."""
    taken = {str(profile["name"]).lower() for profile in profiles}
    candidates = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate.lower() not in taken)
