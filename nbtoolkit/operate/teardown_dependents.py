"""What others have to do with what a teardown would delete: it stays where somebody else needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbtoolkit.azure import resource_id as resource_ids
from nbtoolkit.azure.arm import delete as removal
from nbtoolkit.azure.arm import ownership
from nbtoolkit.azure.arm.delete import RemainingResource
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

Body = Mapping[str, Any]


def needed_by_others(
    going: Iterable[str], place: ResourceNames, workspace: Workspace, cloud: Cloud, progress: Progress
) -> dict[str, str]:
    """Return id in lower case → why it must stay, for those of ``going`` that are not this workspace's alone.

    Costs a request for each environment of the subscription, and some more.
    """
    found: dict[str, str] = {}
    for id_ in going:
        if resource_ids.kind_of(id_) in removal.TAGGED_KINDS and not ownership.is_marked(
            workspace, cloud, id_, progress
        ):
            found[id_.lower()] = f"not made by this workspace (its tag {ownership.MARK_TAG} says so)"
    kinds = {resource_ids.kind_of(id_) for id_ in going}
    if not kinds & {resource_ids.ENVIRONMENT, resource_ids.ACCOUNT, resource_ids.WORKSPACE}:
        return found
    subscription = place.subscription
    environments = run_cancellable(progress, lambda: _environments(cloud, subscription))
    guests = run_cancellable(progress, lambda: _guests(cloud, subscription, place.app_id))
    kept = {one["id"].lower() for one in environments} - {id_.lower() for id_ in going} | set(found)
    for id_ in going:
        users = guests.get(id_.lower())
        if resource_ids.kind_of(id_) == resource_ids.ENVIRONMENT and users:
            found.setdefault(id_.lower(), f"used by {', '.join(users)}")
            kept.add(id_.lower())
    goes = [id_ for id_ in going if not any(id_.lower().startswith(f"{parent}/") for parent in found)]
    staying = [one for one in environments if one["id"].lower() in kept]
    for id_ in going:
        kind = resource_ids.kind_of(id_)
        if kind == resource_ids.ACCOUNT:
            users = run_cancellable(progress, lambda id_=id_: _mounting(cloud, staying, id_, goes))
        elif kind == resource_ids.WORKSPACE:
            users = run_cancellable(progress, lambda id_=id_: _logging(cloud, staying, id_))
        else:
            continue
        if users:
            found.setdefault(id_.lower(), f"used by {', '.join(users)}")
    return found


def log_workspace_of(cloud: Cloud, environment_id: str) -> str | None:
    """Return the id of the Log Analytics workspace that an environment writes to, None where it has none."""
    body = removal.get_resource(cloud, environment_id) or {}
    customer = EnvironmentState(body).log_workspace
    if not customer:
        return None
    client: Any = cloud.workspaces(resource_ids.parse_location(environment_id).subscription)
    with translate_errors("list the Log Analytics workspaces"):
        listed = [one.as_dict() for one in client.workspaces.list()]
    return next((str(one["id"]) for one in listed if _properties(one).get("customerId") == customer), None)


def soft_deleted(cloud: Cloud, share_id: str) -> RemainingResource | None:
    """Return what stays of a share that is deleted in an account that stays; None where nothing does."""
    service = share_id.rpartition("/shares/")[0]
    policy = _properties(removal.get_resource(cloud, service) or {}).get("shareDeleteRetentionPolicy") or {}
    if not policy.get("enabled"):
        return None
    days = policy.get("days")
    return RemainingResource(
        share_id, f"kept for {days} days after it is deleted, and billed as before until then"
    )


def _environments(cloud: Cloud, subscription: str) -> list[Body]:
    client: Any = cloud.containerapps(subscription)
    with translate_errors("list the environments of the subscription"):
        return [one.as_dict() for one in client.managed_environments.list_by_subscription()]


def _guests(cloud: Cloud, subscription: str, but: str) -> dict[str, list[str]]:
    """Return environment → the apps in it other than ``but``."""
    client: Any = cloud.containerapps(subscription)
    with translate_errors("list the apps of the subscription"):
        apps = [one.as_dict() for one in client.container_apps.list_by_subscription()]
    found: dict[str, list[str]] = {}
    for app in apps:
        if str(app["id"]).lower() != but.lower():
            where = AppState(app).environment_id.lower()
            found.setdefault(where, []).append(f"app {app['name']}")
    return found


def _mounting(cloud: Cloud, environments: list[Body], account: str, going: Iterable[str]) -> list[str]:
    """Return the environments that mount a share of the account, but for a mount that goes itself."""
    name, goes = account.rpartition("/")[2], {id_.lower() for id_ in going}
    found: list[str] = []
    for environment in environments:
        place = resource_ids.parse_location(str(environment["id"]))
        client: Any = cloud.containerapps(place.subscription)
        with translate_errors(f"list the storages of the environment {place.name}"):
            listed = client.managed_environments_storages.list(place.group, place.name).as_dict()
        for storage in listed.get("value") or ():
            file: Body = _properties(storage).get("azureFile") or {}
            own = f"{environment['id']}/storages/{storage['name']}".lower() in goes
            if file.get("accountName") == name and not own:
                found.append(f"environment {place.name}")
    return list(dict.fromkeys(found))


def _logging(cloud: Cloud, environments: list[Body], workspace: str) -> list[str]:
    customer = _properties(removal.get_resource(cloud, workspace) or {}).get("customerId")
    return [
        f"environment {one['name']}"
        for one in environments
        if customer and EnvironmentState(one).log_workspace == customer
    ]


def _properties(body: Body) -> Body:
    return body.get("properties") or {}
