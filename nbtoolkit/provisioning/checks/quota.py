"""Whether the subscription may have the GPUs and environments that are asked for."""

from __future__ import annotations

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.portal_urls import QUOTA_PAGE
from nbtoolkit.provisioning.checks.findings import Findings
from nbtoolkit.provisioning.settings import ProvisionSettings

_RAISE = f'ask for more in the portal (provider "Azure Container Apps"): {QUOTA_PAGE}'


def check_room(
    settings: ProvisionSettings, existing: ExistingResources, room: QuotaHeadroom, *, adds_profile: bool
) -> Findings:
    """Compare the quotas of a region with what the settings need there."""
    found = Findings()
    found.facts["quota"] = str(room)
    if existing.environment is None and room.environments is not None and room.environments.free == 0:
        found.block(
            f"The subscription has all {room.environments.limit} environments that it may have in "
            f"{room.region}: delete one, choose an environment_name that exists, or {_RAISE}"
        )
    if room.profile.has_gpu:
        _check_environments(found, existing, room, adds_profile)
        _check_gpus(found, settings, _runs_there(existing, room), room)
    return found


def _check_environments(
    found: Findings, existing: ExistingResources, room: QuotaHeadroom, adds_profile: bool
) -> None:
    gains = existing.environment is None or adds_profile
    if gains and room.environments_free == 0 and room.gpu_environments is not None:
        found.block(
            f"All {room.gpu_environments.limit} environments with {room.profile.label} that you may have "
            f"in {room.region} are in use: choose the environment_name of one of them, or {_RAISE}"
        )


def _check_gpus(found: Findings, settings: ProvisionSettings, runs_there: bool, room: QuotaHeadroom) -> None:
    wanted = settings.max_replicas * room.profile.gpus
    if room.gpus is None:
        found.warn(
            f"Azure names no quota of {room.profile.label} in {room.region}; the region may not have it. "
            "Known to have serverless GPUs are westus3, swedencentral and australiaeast."
        )
    elif room.gpus.limit == 0:
        found.block(
            f"The subscription may have no GPU of the kind {room.profile.label} in {room.region} "
            f"(quota {room.profile.gpu_quota} is 0): choose another region or machine, or {_RAISE}"
        )
    elif room.gpus.limit < wanted:
        found.block(
            f"{wanted} GPUs are wanted and the subscription may have {room.gpus.limit} of the kind "
            f"{room.profile.label} in {room.region}: lower max_replicas, or {_RAISE}"
        )
    elif room.gpus.free == 0 and not runs_there:
        found.block(
            f"All {room.gpus.limit} GPUs of the kind {room.profile.label} in {room.region} are in use: stop "
            f"what uses them, choose another region or machine, or {_RAISE}"
        )
    elif room.gpus.free < wanted and not runs_there:
        found.warn(
            f"{wanted} GPUs are wanted and {room.gpus.free} of {room.gpus.limit} are free in {room.region}: "
            "replicas beyond that will not start until others end."
        )
    elif room.gpus.limit < 2 * wanted:
        found.warn(
            f"The quota of {room.gpus.limit} GPUs has no room for a second set beside the running one: a "
            "deploy that needs a restart will have to stop the app for some minutes. Hot swaps are not "
            "affected."
        )


def _runs_there(existing: ExistingResources, room: QuotaHeadroom) -> bool:
    """Tell whether the app itself may be what uses the GPUs."""
    if existing.app is None:
        return False
    name = AppState(existing.app).workload_profile
    types = EnvironmentState(existing.environment or {}).profiles
    return types.get(name) == room.profile.profile_type
