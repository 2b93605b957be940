"""The few things that are written to Azure beside the deployment itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbtoolkit.azure.changes import change
from nbtoolkit.azure.cloud import Cloud
from nbtoolkit.azure.failures import asking
from nbtoolkit.azure.names import Names
from nbtoolkit.progress import Progress


def create_group(cloud: Cloud, names: Names, location: str, tags: Mapping[str, str]) -> None:
    """Create the resource group."""
    with asking(f"create the resource group {names.resource_group}"):
        cloud.resources(names.subscription).resource_groups.create_or_update(
            names.resource_group, {"location": location, "tags": dict(tags)}
        )


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
    change(names.ids["environment"], what, begin, progress)
