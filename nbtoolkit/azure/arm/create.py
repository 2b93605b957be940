"""Create a resource group, and add a workload profile to an environment."""

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
    """Create the resource group. One request; raises :class:`AzureFailed`."""
    groups: Any = cloud.resources(names.subscription).resource_groups
    body = {"location": location, "tags": dict(tags)}
    action = f"create the resource group {names.resource_group}"
    with translate_errors(action):
        start_request(action, lambda: groups.create_or_update(names.resource_group, body), progress)


def add_profile(cloud: Cloud, names: ResourceNames, profile: Mapping[str, str], progress: Progress) -> str:
    """Add a workload profile to an environment and return its name.

    Adds nothing if the environment has a profile of this type by now, and returns that one's name. A PATCH
    replaces the list of profiles, so the request repeats those that the environment has at that moment.
    """
    client: Any = cloud.containerapps(names.subscription)
    profile_type = profile["workloadProfileType"]
    group_and_name = (names.resource_group, names.environment)

    def begin() -> Any:
        body = client.managed_environments.get(*group_and_name).as_dict()
        profiles = _profiles(body)
        if _name_of_type(profiles, profile_type):
            return None
        new = {"name": free_profile_name(profile["name"], profiles), "workloadProfileType": profile_type}
        patch = {"location": body["location"], "properties": {"workloadProfiles": [*profiles, new]}}
        return client.managed_environments.begin_update(*group_and_name, patch)

    action = f"add the profile {profile['name']} to the environment {names.environment}"
    lost: AzureFailed | None = None
    try:
        change(names.environment_id, action, begin, progress, retry_interval=cloud.poll_interval)
    except AzureFailed as error:
        if error.status is not None:
            raise
        lost = error  # the response was lost: Azure may have added the profile all the same
    name = _name_of_type(_profiles(settled("environment", cloud, names, progress)), profile_type)
    if lost is not None and name is None:
        raise lost
    return name or profile["name"]


def free_profile_name(name: str, profiles: Sequence[Mapping[str, Any]]) -> str:
    """Return ``name``, with a number if an existing profile has that name."""
    taken = {str(profile["name"]).lower() for profile in profiles}
    candidates = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate.lower() not in taken)


def _profiles(environment: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return list(((environment or {}).get("properties") or {}).get("workloadProfiles") or ())


def _name_of_type(profiles: Sequence[Mapping[str, Any]], profile_type: str) -> str | None:
    return next(
        (str(one["name"]) for one in profiles if one.get("workloadProfileType") == profile_type), None
    )
