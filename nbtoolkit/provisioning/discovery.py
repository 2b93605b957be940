"""What exists already under the names that the settings stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm import existing_resources as azure_existing
from nbtoolkit.azure.arm import ownership
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.quota import region_name
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed, Blocked
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks.permissions import forbidden
from nbtoolkit.provisioning.following import inherit_from_app
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.workspace import Workspace


def look(
    settings: ProvisionSettings, cloud: Cloud, progress: Progress, workspace: Workspace | None = None
) -> tuple[ProvisionSettings, ExistingResources]:
    """Return what exists, and the settings with every name and the region that this settles.

    An empty environment that ``workspace`` itself began and that failed counts as missing: making it again
    is the way to repair it.
    """
    progress.phase("Looking at what exists")
    names = settings.resource_names()
    existing = _read(cloud, names, progress)
    spelled = str((existing.group or {}).get("id") or names.group_id)
    settings = settings.with_values(**_of_app(settings, existing.app))
    if settings.resource_names(spelled) != names:  # derived names depend on how Azure spells the group
        existing = _read(cloud, settings.resource_names(spelled), progress)
    if workspace is not None and _failed_here(existing, workspace, cloud, progress):
        existing = replace(existing, environment=None, environment_storage=None)
    return inherit_from_app(_resolved(settings, existing), existing.app), existing


def refuse(sentences: list[str]) -> None:
    """Raise :class:`Blocked` where there is a blocker."""
    if sentences:
        raise Blocked(
            "Nothing was written to Azure. Settle this first:" + "".join(f"\n  - {one}" for one in sentences),
            next_step="settle each of them and run the step again",
            blockers=tuple(sentences),
        )


def _read(cloud: Cloud, names: ResourceNames, progress: Progress) -> ExistingResources:
    """Return what exists; where that may not even be read, say all that is not allowed at once."""
    try:
        return azure_existing.read(cloud, names, progress)
    except AzureFailed as failed:
        if vars(failed).get("status") != 403:
            raise
        refuse(forbidden(cloud, names, failed, progress))
        raise


def _failed_here(existing: ExistingResources, workspace: Workspace, cloud: Cloud, progress: Progress) -> bool:
    properties: Mapping[str, Any] = (existing.environment or {}).get("properties") or {}
    if properties.get("provisioningState") != "Failed":
        return False
    ours = [*created.recall(workspace), *ownership.made(workspace, cloud, progress)[0]]
    mine = existing.names.ids["environment"].lower() in map(str.lower, ours)
    return mine and azure_existing.is_empty(cloud, existing.names, progress)


def _of_app(settings: ProvisionSettings, app: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the environment, and its name for the share, that an existing app is bound to."""
    properties: Mapping[str, Any] = (app or {}).get("properties") or {}
    environment = str(properties.get("environmentId") or "").rpartition("/")[2]
    volumes = (properties.get("template") or {}).get("volumes") or [{}]
    bound = {
        "environment_name": environment,
        "environment_storage": str(volumes[0].get("storageName") or ""),
    }
    return {name: value for name, value in bound.items() if value and not getattr(settings, name)}


def _resolved(settings: ProvisionSettings, existing: ExistingResources) -> ProvisionSettings:
    names = existing.names
    group = region_name(str((existing.group or {}).get("location") or ""))
    there = existing.location if existing.environment is not None else None
    return settings.with_values(
        resource_group=names.resource_group,
        location=settings.location or there or group,
        storage_account=names.storage_account,
        file_share=names.file_share,
        environment_name=names.environment,
        environment_storage=names.environment_storage,
        app=names.app,
        log_analytics=names.log_analytics,
    )
