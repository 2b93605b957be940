"""The few things that are written to Azure beside the deployment itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbtoolkit.azure.changes import begun, change
from nbtoolkit.azure.cloud import Cloud
from nbtoolkit.azure.existing import settled
from nbtoolkit.azure.failures import asking
from nbtoolkit.azure.names import Names
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress


def create_group(
    cloud: Cloud, names: Names, location: str, tags: Mapping[str, str], progress: Progress
) -> None:
    """Create the resource group."""
    groups: Any = cloud.resources(names.subscription).resource_groups
    body = {"location": location, "tags": dict(tags)}
    what = f"create the resource group {names.resource_group}"
    with asking(what):
        begun(what, lambda: groups.create_or_update(names.resource_group, body), progress)


def add_profile(
    cloud: Cloud,
    names: Names,
    environment: Mapping[str, Any],
    profiles: Sequence[Mapping[str, Any]],
    added: Mapping[str, str],
    progress: Progress,
) -> None:
    """Add a workload profile to an environment: a PATCH with all that it has and the new one.

    A list is replaced by a PATCH, so one that it has and that is not sent would be taken away.
    """
    client: Any = cloud.containerapps(names.subscription)
    body = {
        "location": environment["location"],
        "properties": {"workloadProfiles": [*map(dict, profiles), dict(added)]},
    }

    def begin() -> Any:
        return client.managed_environments.begin_update(names.resource_group, names.environment, body)

    what = f"add the profile {added['name']} to the environment {names.environment}"
    try:
        change(names.ids["environment"], what, begin, progress)
    except AzureFailed as failed:
        if failed.__dict__.get("status") is not None or not _has(cloud, names, added, progress):
            raise  # only where the answer was lost, Azure may have done it all the same


def _has(cloud: Cloud, names: Names, added: Mapping[str, str], progress: Progress) -> bool:
    body = settled(cloud, names, progress) or {}
    profiles: list[Mapping[str, Any]] = (body.get("properties") or {}).get("workloadProfiles") or []
    return any(one.get("name") == added["name"] for one in profiles)
