"""Check that the quotas allow the GPUs and environments, and that the base model fits into GPU memory."""

from __future__ import annotations

from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.memory_fit import advice, estimate_fit
from nbtoolkit.azure.capacity.quota import QuotaHeadroom
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.azure.resource_id import QUOTA_PAGE
from nbtoolkit.errors import AzureFailed, InvalidBase, MissingDependency, StoreError
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import describe_base, share_path
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks import Preflight
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

_RAISE = f'request a higher quota in the portal (provider "Azure Container Apps"): {QUOTA_PAGE}'
_LONG_LOADING = 300
"""Seconds of loading from which on a start from zero is worth a warning."""


def check_quota(found: Preflight, quota: QuotaHeadroom) -> None:
    """Compare the quotas of a region with the settings."""
    new_environment = found.existing.environment is None
    found.quota = quota
    found.facts["quota"] = str(quota)
    if new_environment and quota.environments is not None and quota.environments.free == 0:
        found.block(
            f"All {quota.environments.limit} environments that the quota of the subscription allows in "
            f"{quota.region} exist: delete one, choose an existing environment_name, or {_RAISE}"
        )
    if not quota.profile.has_gpu:
        return
    one_more = new_environment or found.added_profile
    if one_more and quota.gpu_environments is not None and quota.gpu_environments.free == 0:
        found.block(
            f"All {quota.gpu_environments.limit} environments with {quota.profile.label} that the quota "
            f"allows in {quota.region} are in use: choose the environment_name of one of them, or {_RAISE}"
        )
    _check_gpus(found, quota)


def _check_gpus(found: Preflight, quota: QuotaHeadroom) -> None:
    needed = found.settings.max_replicas * quota.profile.gpus
    profiles = EnvironmentState(found.existing.environment or {}).profiles
    profile = profiles.get(AppState(found.existing.app or {}).workload_profile)
    app_uses_gpus = found.existing.app is not None and profile == quota.profile.profile_type
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


def check_memory(found: Preflight, workspace: Workspace, cloud: Cloud, progress: Progress) -> None:
    """Block if the base model does not fit into the memory of the chosen GPU.

    Reads the headers of a model on the share there, some dozen requests; does not query the model hub.
    """
    settings, existing = found.settings, found.existing
    if not settings.base_model:
        found.facts["base model"] = "not named, so its memory is not checked"
        return
    path = share_path(settings.base_model)
    if path is not None and existing.file_share is None:
        found.facts["base model"] = f"{settings.base_model}, on the share; its memory is checked at deploy"
        return
    try:
        if path is not None:
            share = AzureShare(cloud, existing.names)
            base = run_cancellable(progress, lambda: describe_base(share, path, workspace, progress))
        else:
            base = Base.resolve(settings.base_model, workspace, progress)
    except (StoreError, AzureFailed, InvalidBase, MissingDependency) as error:
        reason = f": {error.message} The deploy checks it again."
        if isinstance(error, (InvalidBase, MissingDependency)):
            reason = f", as it is not on this machine: {error.message}"
        found.warn(f"Whether {settings.base_model} fits on the GPU is unknown{reason}")
        return
    hardware = GpuProfile.by_name(settings.gpu)
    result = estimate_fit(base, hardware, settings.quantization)
    found.facts["base model"] = str(result)
    found.facts["loading"] = f"about {_duration(result.load_seconds)} from the share, at 60 MiB/s"
    found.fit = result
    help_ = advice(base, hardware, settings.quantization)
    if not result.fits:
        found.block(f"{result}. It does not fit: {help_}.")
        return
    if not result.has_headroom:
        found.warn(
            f"{base.name} leaves memory for about {result.max_tokens:,} tokens of all open chats together: "
            f"long or many chats wait. For more, {help_}."
        )
    if result.load_seconds > _LONG_LOADING and settings.min_replicas == 0:
        found.warn(
            f"Every start from zero loads for about {_duration(result.load_seconds)}, and the first request "
            "waits that long. min_replicas=1 avoids it and costs a GPU all the time."
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
