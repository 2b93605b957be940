"""Build the template's parameters, keep values of an existing app, and list how they change it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.container_apps.models import API_KEY_SECRET, AppState, secret_name
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.provisioning.settings import PARAMETERS, ProvisionSettings

REGISTRY_PASSWORD = "registry-password"  # noqa: S105 - the name of a secret, not one
_LABELS = {
    "min_replicas": "minimum replicas",
    "max_replicas": "maximum replicas",
    "cooldown": "cooldown in seconds",
    "concurrent_requests": "requests per replica",
    "termination_grace": "seconds for open requests",
}
INHERITED = tuple(_LABELS)
"""Settings that an app's JSON holds: a change is found without the settings of the last run."""


def template_parameters(
    settings: ProvisionSettings, existing: ExistingResources, profile: str, secret_names: list[str]
) -> dict[str, Any]:
    """Return the template's parameters without the values of secrets.

    Every name is set in ``settings``. Existing resources are not created again, and the app keeps its
    variables, tags, domains and rules.
    """
    app = AppState(existing.app or {})
    values: dict[str, Any] = {key: getattr(settings, name) for name, key in PARAMETERS.items()}
    values |= {
        "workloadProfileName": profile,
        "createStorage": existing.storage_account is None,
        "createFileShare": existing.file_share is None,
        "createEnvironment": existing.environment is None,
        "createWorkspace": existing.environment is None and existing.log_analytics is None,
        # a new account has a new key, which a storage of an earlier account of that name lacks
        "createEnvironmentStorage": existing.environment_storage is None or existing.storage_account is None,
        "secretNames": secret_names,
        "environmentVariables": {**app.user_variables, **settings.environment_variables},
        "tags": {**app.tags, **settings.tags},
        "customDomains": app.custom_domains,
        "allowedIpRanges": list(settings.allowed_ip_ranges) or app.allowed_ip_ranges,
        "deniedIpRanges": app.denied_ip_ranges,
        "ingress": app.ingress_options,
        "maxInactiveRevisions": app.max_inactive_revisions,
        **_registry(settings, app),
    }
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value not in ("", None, [], {})}


def all_secret_names(settings: ProvisionSettings, existing: ExistingResources) -> list[str]:
    """Return the names of all secrets that the app will have: the existing ones, then the new ones."""
    new = [API_KEY_SECRET, *map(secret_name, settings.secrets)]
    if settings.hf_token is not None:
        new.append("hf-token")
    if settings.registry_password is not None:
        new.append(REGISTRY_PASSWORD)
    return list(dict.fromkeys([*AppState(existing.app or {}).secret_names, *new]))


def secret_values(
    settings: ProvisionSettings, existing: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the app's secrets, overridden by those of the settings, with a random API key if it has none.

    Keep them in memory only.
    """
    values = {API_KEY_SECRET: secrets.token_urlsafe(32), **existing}
    values |= {secret_name(name): environ[name] for name in settings.secrets if environ.get(name)}
    if settings.hf_token is not None:
        values["hf-token"] = settings.hf_token.get_secret_value()
    if settings.registry_password is not None:
        values[REGISTRY_PASSWORD] = settings.registry_password.get_secret_value()
    return values


def missing_secrets(
    settings: ProvisionSettings, existing: ExistingResources, environ: Mapping[str, str]
) -> list[str]:
    """Return a blocker for each secret without a value in this kernel and in the app."""
    in_app = AppState(existing.app or {}).secret_names
    return [
        f"The secret {name} has no value in this kernel's environment: set the variable before the kernel "
        "starts, or with os.environ and getpass in a cell."
        for name in settings.secrets
        if not environ.get(name) and secret_name(name) not in in_app
    ]


def fingerprint(value: Any) -> str:
    """Return a short hash that identifies a request; ``value`` must not hold secrets."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprinted_settings(settings: ProvisionSettings) -> dict[str, Any]:
    """Return the settings that shape the deployment, without secrets and without switches of this tool.

    Values that the app's JSON holds are left out, as they are compared with the app.
    """
    switches = {"create_resource_group", "register_providers", "remember", "allow_downtime"}
    in_app = {*INHERITED, "image"}
    return settings.model_dump(mode="json", exclude={*switches, *in_app, "hf_token", "registry_password"})


def _registry(settings: ProvisionSettings, app: AppState) -> dict[str, str | None]:
    if not settings.registry_server:
        return {
            "registryServer": app.registry.get("server"),
            "registryUsername": app.registry.get("username"),
            "registryPasswordSecret": app.registry.get("passwordSecretRef"),
            "registryIdentity": app.registry.get("identity"),
        }
    return {
        "registryServer": settings.registry_server,
        "registryUsername": settings.registry_username,
        "registryPasswordSecret": REGISTRY_PASSWORD if settings.registry_password is not None else None,
        "registryIdentity": settings.registry_identity,
    }


def inherit_from_app(settings: ProvisionSettings, app: Mapping[str, Any] | None) -> ProvisionSettings:
    """Return the settings with values of the app for those that are not set.

    So a change by `scale()` or in the portal is kept. A value outside the limits of the setting is ignored.
    """
    if app is None:
        return settings
    chosen = settings.model_fields_set
    for name, value in _inherited_values(AppState(app)).items():
        if name not in chosen:
            with suppress(InvalidSettings):
                settings = settings.with_values(**{name: value})
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


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    return "–" if value in (None, "") else str(value)
