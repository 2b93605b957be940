"""How an app that exists differs from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.provisioning.settings import ProvisionSettings

_LABELS = {
    "min_replicas": "replicas, at least",
    "max_replicas": "replicas, at most",
    "cooldown": "cooldown in seconds",
    "concurrent_requests": "requests per replica",
}


def drift(settings: ProvisionSettings, app: AppState, profile: str, image: str) -> list[str]:
    """Return what would be changed in the app, one sentence each; additions by others do not count."""
    pairs: list[tuple[str, Any, Any]] = [
        ("image", app.image, image),
        ("machine", app.workload_profile, profile),
        ("seconds for open answers", app.termination_grace, settings.termination_grace),
        *((label, app.scale[name], getattr(settings, name)) for name, label in _LABELS.items()),
    ]
    if settings.allowed_ip_ranges:
        pairs.append(("allowed addresses", app.allowed_ip_ranges, list(settings.allowed_ip_ranges)))
    if settings.registry_server:
        pairs.append(("registry", app.registry.get("server"), settings.registry_server))
    pairs += [
        (f"variable {name}", app.user_variables.get(name), value)
        for name, value in settings.environment_variables.items()
    ]
    pairs += [(f"tag {name}", app.tags.get(name), value) for name, value in settings.tags.items()]
    return [f"{label}: {_shown(have)} → {_shown(want)}" for label, have, want in pairs if have != want]


def secret_drift(present: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return which secrets would be added or replaced, by name; their values are compared, never shown."""
    return [
        f"secret {name}: {'replaced' if name in present else 'added'}"
        for name, value in wanted.items()
        if present.get(name) != value
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    return "–" if value in (None, "") else str(value)
