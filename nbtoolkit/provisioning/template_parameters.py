"""What the template is given: the settings, and what an app that exists must not lose."""

from __future__ import annotations

import hashlib
import json
import secrets as randomness
from collections.abc import Mapping
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.container_apps.models import AppState, secret_name
from nbtoolkit.provisioning import saved_defaults as choices
from nbtoolkit.provisioning.following import FOLLOWED
from nbtoolkit.provisioning.settings import ProvisionSettings

API_KEY = "nbtoolkit-api-key"
REGISTRY_PASSWORD = "registry-password"  # noqa: S105 - the name of a secret, not one
_AS_THEY_ARE = (
    "commands",
    "max_replicas",
    "gpu",
    "engine",
    "quantization",
    "image",
    "min_replicas",
    "concurrent_requests",
    "cooldown",
    "termination_grace",
    "base_model",
)


def parameters_of(
    settings: ProvisionSettings, existing: ExistingResources, profile: str, secret_names: list[str]
) -> dict[str, Any]:
    """Return the template's parameters but for the secrets' values; what exists is not to be created."""
    names, app = existing.names, AppState(existing.app or {})
    values: dict[str, Any] = {choices.PARAMETERS[name]: getattr(settings, name) for name in _AS_THEY_ARE}
    values |= {
        "location": settings.location,
        "storageAccountName": names.storage_account,
        "fileShareName": names.file_share,
        "acaEnvironmentName": names.environment,
        "acaEnvironmentStorageName": names.environment_storage,
        "acaAppName": names.app,
        "acaLogAnalyticsName": names.log_analytics,
        "workloadProfileName": profile,
        "createStorage": existing.storage_account is None,
        "createFileShare": existing.file_share is None,
        "createEnvironment": existing.environment is None,
        "createWorkspace": existing.environment is None and existing.log_analytics is None,
        # a new account has a new key, which an old connection to its namesake lacks
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


def secret_names_of(settings: ProvisionSettings, existing: ExistingResources) -> list[str]:
    """Return the names of all secrets that the app will have: those it has, then new ones."""
    new = [API_KEY, *map(secret_name, settings.secrets)]
    if settings.hf_token is not None:
        new.append("hf-token")
    if settings.registry_password is not None:
        new.append(REGISTRY_PASSWORD)
    return list(dict.fromkeys([*AppState(existing.app or {}).secret_names, *new]))


def secret_values(
    settings: ProvisionSettings, present: Mapping[str, str], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the secrets: those of the app, with what is set here put over them; a first API key is made up.

    Keep them in memory only.
    """
    values = {API_KEY: randomness.token_urlsafe(32), **present}
    values |= {secret_name(name): environ[name] for name in settings.secrets if environ.get(name)}
    if settings.hf_token is not None:
        values["hf-token"] = settings.hf_token.get_secret_value()
    if settings.registry_password is not None:
        values[REGISTRY_PASSWORD] = settings.registry_password.get_secret_value()
    return values


def unset_secrets(
    settings: ProvisionSettings, existing: ExistingResources, environ: Mapping[str, str]
) -> list[str]:
    """Return a blocker for each secret that neither this kernel nor the app has a value of."""
    present = AppState(existing.app or {}).secret_names
    return [
        f"{name} is to become a secret, and this kernel's environment has no value of it: set it before the "
        "kernel starts, or with os.environ and getpass in a cell."
        for name in settings.secrets
        if not environ.get(name) and secret_name(name) not in present
    ]


def fingerprint(value: Any) -> str:
    """Return a short hash of what was asked for, so that the same request is recognised; no secrets in it."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def asked_for(settings: ProvisionSettings) -> dict[str, Any]:
    """Return the settings that shape what is deployed, without secrets and without our own switches."""
    own = {"create_resource_group", "register_providers", "remember", "allow_downtime"}
    seen = {*FOLLOWED, "image"}  # the app itself tells whether it differs
    return settings.model_dump(mode="json", exclude={*own, *seen, "hf_token", "registry_password"})


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
