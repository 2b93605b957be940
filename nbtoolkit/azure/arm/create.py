"""The few things that are written to Azure beside the deployment itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbtoolkit.azure.arm.existing_resources import settled
from nbtoolkit.azure.arm.long_running import change, start_request
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress


def create_group(
    cloud: Cloud, names: ResourceNames, location: str, tags: Mapping[str, str], progress: Progress
) -> None:
    """Create the resource group."""
    groups: Any = cloud.resources(names.subscription).resource_groups
    body = {"location": location, "tags": dict(tags)}
    what = f"create the resource group {names.resource_group}"
    with translate_errors(what):
        start_request(what, lambda: groups.create_or_update(names.resource_group, body), progress)


def add_profile(cloud: Cloud, names: ResourceNames, added: Mapping[str, str], progress: Progress) -> str:
    """Add a machine to an environment, unless one of its type is there by now; return the profile's name.

    A PATCH replaces the list, so what the environment has at that very moment is sent along.
    """
    client: Any = cloud.containerapps(names.subscription)
    wanted = added["workloadProfileType"]
    where = (names.resource_group, names.environment)

    def begin() -> Any:
        body = client.managed_environments.get(*where).as_dict()
        profiles = _profiles(body)
        if _of_type(profiles, wanted):
            return None
        new = {"name": free_name(added["name"], profiles), "workloadProfileType": wanted}
        patch = {"location": body["location"], "properties": {"workloadProfiles": [*profiles, new]}}
        return client.managed_environments.begin_update(*where, patch)

    what = f"add the profile {added['name']} to the environment {names.environment}"
    try:
        change(names.ids["environment"], what, begin, progress)
    except AzureFailed as failed:
        if failed.status is not None:
            raise
        # only where the answer was lost, Azure may have done it all the same
        if (found := _of_type(_profiles(settled(cloud, names, progress)), wanted)) is None:
            raise
        return found
    return _of_type(_profiles(settled(cloud, names, progress)), wanted) or added["name"]


def free_name(name: str, profiles: Sequence[Mapping[str, Any]]) -> str:
    """Return a name for one more profile: this one, or it with a number."""
    taken = {str(one["name"]).lower() for one in profiles}
    candidates = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    return next(one for one in candidates if one.lower() not in taken)


def _profiles(environment: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list(((environment or {}).get("properties") or {}).get("workloadProfiles") or ())


def _of_type(profiles: Sequence[Mapping[str, Any]], wanted: str) -> str | None:
    return next((str(one["name"]) for one in profiles if one.get("workloadProfileType") == wanted), None)
