"""Whether the chosen base model fits on the chosen machine."""

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
from nbtoolkit.provisioning.checks.findings import Findings
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

_LONG = 300  # seconds of loading that are worth a warning


def check_base(
    settings: ProvisionSettings,
    existing: ExistingResources,
    workspace: Workspace,
    cloud: Cloud,
    progress: Progress,
) -> tuple[Findings, MemoryFit | None]:
    """Return what is known of the fit.

    Of a model on the share the headers are read there, where the share exists; the hub is not asked.
    """
    found = Findings()
    if not settings.base_model:
        found.facts["base model"] = "not named, so its fit is not checked"
        return found, None
    on_share = share_path(settings.base_model)
    if on_share is not None and existing.file_share is None:
        found.facts["base model"] = f"{settings.base_model}, on the share; its fit is checked at deploy"
        return found, None
    try:
        if on_share is not None:
            base = _on_share(on_share, existing, workspace, cloud, progress)
        else:
            base = Base.resolve(settings.base_model, workspace, progress)
    except (StoreError, AzureFailed) as error:
        found.warn(
            f"Whether {settings.base_model} fits on the machine is not known: {error.message} It is checked "
            "again at deploy."
        )
        return found, None
    except (InvalidBase, MissingDependency) as error:
        found.warn(
            f"Whether {settings.base_model} fits on the machine is not known: it is not on this machine. "
            f"{error.message}"
        )
        return found, None
    hardware = GpuProfile.by_name(settings.gpu)
    result = estimate_fit(base, hardware, settings.quantization)
    found.facts["base model"] = str(result)
    found.facts["loading"] = f"about {_duration(result.load_seconds)} from the share, at 60 MiB/s"
    if not result.fits:
        found.block(f"{result}. It does not fit: {advice(base, hardware, settings.quantization)}.")
        return found, result
    if not result.has_headroom:
        found.warn(
            f"{base.name} leaves room for about {result.max_tokens:,} tokens of conversations at once: "
            f"long or many chats wait. To have more, {advice(base, hardware, settings.quantization)}."
        )
    if result.load_seconds > _LONG and settings.min_replicas == 0:
        found.warn(
            f"Every start from zero loads for about {_duration(result.load_seconds)}, and the first request "
            "waits that long: set min_replicas=1 if that matters, which costs all the time."
        )
    return found, result


def _on_share(
    path: str, existing: ExistingResources, workspace: Workspace, cloud: Cloud, progress: Progress
) -> Base:
    """Return a model as it lies on the share: its small files and headers are read, some dozen requests."""
    share = AzureShare(cloud, existing.names)
    return run_cancellable(progress, lambda: describe_base(share, path, workspace, progress))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
