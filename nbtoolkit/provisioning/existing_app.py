"""Compare an existing app with the settings: which values it keeps, and what a provision would change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.provisioning.settings import ProvisionSettings

_LABELS = {
    "min_replicas": "minimum replicas",
    "max_replicas": "maximum replicas",
    "cooldown": "cooldown in seconds",
    "concurrent_requests": "requests per replica",
    "termination_grace": "seconds for open requests",
}
INHERITED = tuple(_LABELS)
"""Settings that an app's JSON holds: a change is found without the settings of the last run."""


def inherit_from_app(settings: ProvisionSettings, app: Mapping[str, Any] | None) -> ProvisionSettings:
    """Return the settings with values of the app for those that are not set.

    So a change by `scale()` or in the portal is kept. A value outside the limits of the setting is ignored.
    """
    if app is None:
        return settings
    chosen = settings.model_fields_set
    for name, value in _inherited_values(AppState(app)).items():
        if name not in chosen:
            settings = _with_valid_value(settings, name, value)
    minimum, maximum = settings.min_replicas, settings.max_replicas
    if minimum <= maximum:
        return settings
    if "min_replicas" in chosen:  # a chosen limit overrules the app's other limit
        return settings.with_values(max_replicas=minimum)
    return settings.with_values(min_replicas=maximum)


def app_changes(settings: ProvisionSettings, app: AppState, profile: str, image: str) -> list[str]:
    """Return one sentence for each change of the app; additions by other tools do not count."""
    values = _inherited_values(app)
    pairs: list[tuple[str, Any, Any]] = [
        ("image", app.image, image),
        ("workload profile", app.workload_profile, profile),
        *((label, values[name], getattr(settings, name)) for name, label in _LABELS.items()),
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
    return [
        f"{label}: {_shown(before)} → {_shown(after)}" for label, before, after in pairs if before != after
    ]


def secret_changes(existing: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return which secrets would be added or replaced, by name; values are compared and never shown."""
    return [
        f"secret {name}: {'replaced' if name in existing else 'added'}"
        for name, value in wanted.items()
        if existing.get(name) != value
    ]


def _inherited_values(app: AppState) -> dict[str, int]:
    return {**app.scale, "termination_grace": app.termination_grace}


def _with_valid_value(settings: ProvisionSettings, name: str, value: int) -> ProvisionSettings:
    """Return the settings with one more value, or unchanged if the setting does not allow it."""
    try:
        return settings.with_values(**{name: value})
    except InvalidSettings:
        return settings


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    return "–" if value in (None, "") else str(value)
