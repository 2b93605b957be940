"""Check that the base model fits into the memory of the chosen GPU."""

from __future__ import annotations

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.memory_fit import MemoryFit, advice, estimate_fit
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import AzureFailed, InvalidBase, MissingDependency, StoreError
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.share_models import describe_base, share_path
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks.result import Findings
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

_LONG_LOADING = 300
"""Seconds of loading from which on a start from zero is worth a warning."""


def check_memory(
    settings: ProvisionSettings,
    existing: ExistingResources,
    workspace: Workspace,
    cloud: Cloud,
    progress: Progress,
) -> tuple[Findings, MemoryFit | None]:
    """Return the findings, and the fit if it is known.

    Reads the headers of a model on the share there, some dozen requests; does not query the model hub.
    """
    found = Findings()
    if not settings.base_model:
        found.facts["base model"] = "not named, so its memory is not checked"
        return found, None
    path = share_path(settings.base_model)
    if path is not None and existing.file_share is None:
        found.facts["base model"] = f"{settings.base_model}, on the share; its memory is checked at deploy"
        return found, None
    try:
        if path is not None:
            share = AzureShare(cloud, existing.names)
            base = run_cancellable(progress, lambda: describe_base(share, path, workspace, progress))
        else:
            base = Base.resolve(settings.base_model, workspace, progress)
    except (StoreError, AzureFailed) as error:
        found.warn(
            f"Whether {settings.base_model} fits on the GPU is unknown: {error.message} The deploy checks it "
            "again."
        )
        return found, None
    except (InvalidBase, MissingDependency) as error:
        found.warn(
            f"Whether {settings.base_model} fits on the GPU is unknown, as it is not on this machine: "
            f"{error.message}"
        )
        return found, None
    result = estimate_fit(base, GpuProfile.by_name(settings.gpu), settings.quantization)
    found.facts["base model"] = str(result)
    found.facts["loading"] = f"about {_duration(result.load_seconds)} from the share, at 60 MiB/s"
    _check_fit(found, settings, base, result)
    return found, result


def _check_fit(found: Findings, settings: ProvisionSettings, base: Base, result: MemoryFit) -> None:
    help_ = advice(base, GpuProfile.by_name(settings.gpu), settings.quantization)
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
