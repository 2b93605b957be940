"""See before anything is sent that a base model fits on the machine that shall load it."""

from __future__ import annotations

from nbtoolkit.deployment.settings import DeploySettings
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.target import Target
from nbtoolkit.utils.threads import run_cancellable


def check_fit(settings: DeploySettings, target: Target, base: Base, progress: Progress) -> None:
    """Raise :class:`InvalidSettings` where the base does not fit on the app's machine on Azure.

    It is an estimate: with an ``override_reason`` it is only told. Two requests to ARM.
    """
    if target.name != "azure":
        return
    from nbtoolkit.azure.capacity.memory_fit import advice, fit
    from nbtoolkit.azure.target import AzureTarget  # late: it needs the Azure SDK

    hardware = run_cancellable(progress, target.machine) if isinstance(target, AzureTarget) else None
    if hardware is None:
        return
    found = fit(base, hardware, settings.quantization)
    if found.roomy:
        return
    said, step = f"{found}, on {hardware.label}", advice(base, hardware, settings.quantization)
    if found.fits or settings.override_reason is not None:
        progress.note(f"{said}: long or many chats wait, or find no memory; {step}")
        return
    raise InvalidSettings(
        f"The base model does not fit: {said}.",
        next_step=f"{step}; or give override_reason where this estimate is wrong",
    )
