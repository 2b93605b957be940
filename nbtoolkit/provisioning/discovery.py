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
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
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
    existing = _discover(settings, cloud, progress)
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


def _discover(settings: ProvisionSettings, cloud: Cloud, progress: Progress) -> ExistingResources:
    """Return what exists; if reading it is forbidden, list all missing permissions at once."""

    def resolve_names(group_id: str, app: Mapping[str, Any] | None) -> ResourceNames:
        return settings.with_values(**_of_app(settings, app)).resource_names(group_id)

    names = settings.resource_names()
    try:
        return azure_existing.discover(cloud, names, progress, resolve_names)
    except AzureFailed as failed:
        if failed.status != 403:
            raise
        refuse(forbidden(cloud, names, failed, progress))
        raise


def _failed_here(existing: ExistingResources, workspace: Workspace, cloud: Cloud, progress: Progress) -> bool:
    if EnvironmentState(existing.environment or {}).provisioning_state != "Failed":
        return False
    ours = [*created.recall(workspace), *ownership.created_by_last_run(workspace, cloud, progress)[0]]
    mine = existing.names.ids["environment"].lower() in map(str.lower, ours)
    return mine and azure_existing.environment_is_empty(cloud, existing.names, progress)


def _of_app(settings: ProvisionSettings, app: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the environment, and its name for the share, that an existing app is bound to."""
    state = AppState(app or {})
    volume = next(iter(state.volumes), {})
    bound = {
        "environment_name": state.environment_id.rpartition("/")[2],
        "environment_storage": str(volume.get("storageName") or ""),
    }
    return {name: value for name, value in bound.items() if value and not getattr(settings, name)}


def _resolved(settings: ProvisionSettings, existing: ExistingResources) -> ProvisionSettings:
    names = existing.names
    group = normalize_region(str((existing.group or {}).get("location") or ""))
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
