"""What exists and does not go together with the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.container_apps.managed_app import unsupported_features
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.provisioning.settings import ProvisionSettings


def conflicts(
    settings: ProvisionSettings, existing: ExistingResources, secrets: list[dict[str, Any]]
) -> list[str]:
    """Return a blocker, with what to do, for each contradiction."""
    names = existing.names
    if existing.group is None and not settings.create_resource_group:
        return [
            f"There is no resource group {names.resource_group} in this subscription: choose one from the "
            "list, or let it be created with create_resource_group."
        ]
    found = [*_place(settings, existing), *_share(existing)]
    if existing.app is not None:
        found += _app(settings, existing, existing.app, secrets)
    return found


def _place(settings: ProvisionSettings, existing: ExistingResources) -> list[str]:
    there = existing.location
    if existing.environment is None or not settings.location or settings.location == there:
        return []
    return [
        f"The environment {existing.names.environment} is in {there}, and the app has to be there too: leave "
        f"location blank, or choose another environment_name for {settings.location}."
    ]


def _share(existing: ExistingResources) -> list[str]:
    """Refuse to take a name in the environment that stands for another share."""
    storage = existing.environment_storage or {}
    file: Mapping[str, Any] = (storage.get("properties") or {}).get("azureFile") or {}
    names = existing.names
    if not file or (file.get("accountName"), file.get("shareName")) == (
        names.storage_account,
        names.file_share,
    ):
        return []
    return [
        f"{names.environment_storage} in the environment stands for another share "
        f"({file.get('accountName')}/{file.get('shareName')}): choose another environment_storage."
    ]


def _app(
    settings: ProvisionSettings,
    existing: ExistingResources,
    body: Mapping[str, Any],
    secrets: list[dict[str, Any]],
) -> list[str]:
    names, app = existing.names, AppState(body)
    environment = app.environment_id
    if environment.lower() != names.ids["environment"].lower():
        where = environment.rpartition("/")[2]
        return [
            f"The app {names.app} exists in another environment ({where}), and an app cannot move: choose "
            "another app, or that environment_name."
        ]
    found: list[str] = []
    if settings.allowed_ip_ranges and app.denied_ip_ranges:
        found.append(
            f"The app {names.app} denies access to {', '.join(app.denied_ip_ranges)}, and Azure takes either "
            "allowed or denied addresses: leave allowed_ip_ranges blank to keep that, or delete those rules "
            "on the app's Ingress page."
        )
    if lost := unsupported_features(app, secrets, settings.registry_identity):
        found.append(
            f"The app {names.app} has {', '.join(lost)}, which would be lost: take that off in the portal "
            "where it is not needed any more, or choose another app, and a new one is created beside it."
        )
    return found
