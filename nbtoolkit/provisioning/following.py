"""What an app that exists keeps where nobody chose otherwise: how `scale()` or the portal left it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.provisioning.settings import ProvisionSettings

FOLLOWED = ("min_replicas", "max_replicas", "cooldown", "concurrent_requests", "termination_grace")
"""Settings that an app tells by itself, so a change of them is seen without the last run's settings."""


def inherit_from_app(settings: ProvisionSettings, app: Mapping[str, Any] | None) -> ProvisionSettings:
    """Return the settings with what was not chosen as the app has it; what none may have stays as it is."""
    if app is None:
        return settings
    present, chosen = AppState(app), settings.model_fields_set
    values = {**present.scale, "termination_grace": present.termination_grace}
    for name in FOLLOWED:
        if name not in chosen:
            settings = _with(settings, name, values[name])
    least, most = settings.min_replicas, settings.max_replicas
    if least <= most:
        return settings
    if "min_replicas" in chosen:  # what was chosen rules over the app's other bound
        return settings.with_values(max_replicas=least)
    return settings.with_values(min_replicas=most)


def _with(settings: ProvisionSettings, name: str, value: int) -> ProvisionSettings:
    """Return the settings with one more value, unless it is beyond what is offered here."""
    try:
        return settings.with_values(**{name: value})
    except InvalidSettings:
        return settings
