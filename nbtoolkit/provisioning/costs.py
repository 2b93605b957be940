"""What the machine costs while it works and while it rests."""

from __future__ import annotations

from collections.abc import Mapping

from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.provisioning.settings import ProvisionSettings


def costs_of(settings: ProvisionSettings, facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what is billed, as label and text; ``facts`` are the preflight's."""
    hardware = GpuProfile.by_name(settings.gpu)
    kept = "storage by GB and month, logs by GB taken in"
    if settings.min_replicas:
        rest = f"never: {settings.min_replicas} replicas run all the time; beside them {kept}"
    else:
        rest = f"only {kept}; the last replica ends {settings.cooldown} s after the last request"
    if not settings.min_replicas:
        first = f"runs at once even so, until {settings.cooldown} s have passed without a request"
    else:
        first = f"starts {settings.min_replicas} at once"
    rows = [("at zero replicas", rest), ("per running replica", facts.get("price", "unknown"))]
    rows.insert(1, ("first replica", f"after it is created or changed: {first}"))
    if not hardware.serverless:
        fee = "a dedicated profile costs a management fee as long as the environment has it"
        rows.append(("dedicated", fee))
    return tuple(rows)
