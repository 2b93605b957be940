"""Check that the subscription's quotas allow the GPUs and environments of the settings."""

from __future__ import annotations

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.portal_urls import QUOTA_PAGE
from nbtoolkit.provisioning.checks.result import Findings
from nbtoolkit.provisioning.settings import ProvisionSettings

_RAISE = f'request a higher quota in the portal (provider "Azure Container Apps"): {QUOTA_PAGE}'


def check_quota(
    settings: ProvisionSettings, existing: ExistingResources, quota: QuotaHeadroom, *, adds_profile: bool
) -> Findings:
    """Compare the quotas of a region with the settings."""
    found = Findings()
    found.facts["quota"] = str(quota)
    if existing.environment is None and quota.environments is not None and quota.environments.free == 0:
        found.block(
            f"All {quota.environments.limit} environments that the quota of the subscription allows in "
            f"{quota.region} exist: delete one, choose an existing environment_name, or {_RAISE}"
        )
    if quota.profile.has_gpu:
        _check_gpu_environments(found, existing, quota, adds_profile)
        _check_gpus(found, settings, _app_uses_gpus(existing, quota), quota)
    return found


def _check_gpu_environments(
    found: Findings, existing: ExistingResources, quota: QuotaHeadroom, adds_profile: bool
) -> None:
    one_more = existing.environment is None or adds_profile
    if one_more and quota.environments_free == 0 and quota.gpu_environments is not None:
        found.block(
            f"All {quota.gpu_environments.limit} environments with {quota.profile.label} that the quota "
            f"allows in {quota.region} are in use: choose the environment_name of one of them, or {_RAISE}"
        )


def _check_gpus(
    found: Findings, settings: ProvisionSettings, app_uses_gpus: bool, quota: QuotaHeadroom
) -> None:
    needed = settings.max_replicas * quota.profile.gpus
    label, region = quota.profile.label, quota.region
    if quota.gpus is None:
        found.warn(
            f"Azure lists no quota of {label} in {region}; the region may not offer it. Regions with "
            "serverless GPUs are westus3, swedencentral and australiaeast."
        )
    elif quota.gpus.limit == 0:
        found.block(
            f"The quota {quota.profile.gpu_quota} is 0, so no GPU of type {label} can run in {region}: "
            f"choose another region or GPU, or {_RAISE}"
        )
    elif quota.gpus.limit < needed:
        found.block(
            f"{needed} GPUs are needed, and the quota allows {quota.gpus.limit} of type {label} in {region}: "
            f"lower max_replicas, or {_RAISE}"
        )
    elif quota.gpus.free == 0 and not app_uses_gpus:
        found.block(
            f"All {quota.gpus.limit} GPUs of type {label} in {region} are in use: stop an app that uses "
            f"them, choose another region or GPU, or {_RAISE}"
        )
    elif quota.gpus.free < needed and not app_uses_gpus:
        found.warn(
            f"{needed} GPUs are needed, and {quota.gpus.free} of {quota.gpus.limit} are free in {region}: "
            "further replicas do not start until others end."
        )
    elif quota.gpus.limit < 2 * needed:
        found.warn(
            f"The quota of {quota.gpus.limit} GPUs does not allow a second set next to the running one: a "
            "deploy that needs a restart must stop the app for some minutes. Hot swaps are not affected."
        )


def _app_uses_gpus(existing: ExistingResources, quota: QuotaHeadroom) -> bool:
    """Return whether the app itself may use the GPUs that count as used."""
    if existing.app is None:
        return False
    types = EnvironmentState(existing.environment or {}).profiles
    return types.get(AppState(existing.app).workload_profile) == quota.profile.profile_type
