"""Find resources that others use or created, which a teardown must keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from nbtoolkit.azure import resource_id
from nbtoolkit.azure.arm import created_resources, delete
from nbtoolkit.azure.arm.delete import RemainingResource
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState, Json
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace


def needed_by_others(
    candidates: Iterable[str], names: ResourceNames, workspace: Workspace, cloud: Cloud, progress: Progress
) -> dict[str, str]:
    """Return id in lower case → reason for each candidate that must stay.

    Costs one request for each environment of the subscription, and some more.
    """
    reasons: dict[str, str] = {}
    for id_ in candidates:
        if resource_id.kind_of(id_) in delete.TAGGED_KINDS and not created_resources.is_marked(
            workspace, cloud, id_, progress
        ):
            reasons[id_.lower()] = f"not created by this workspace (see its tag {created_resources.MARK_TAG})"
    kinds = {resource_id.kind_of(id_) for id_ in candidates}
    if not kinds & {resource_id.ENVIRONMENT, resource_id.ACCOUNT, resource_id.WORKSPACE}:
        return reasons
    client: Any = cloud.containerapps(names.subscription)

    def list_environments() -> list[Json]:
        with translate_errors("list the environments of the subscription"):
            return [one.as_dict() for one in client.managed_environments.list_by_subscription()]

    environments = run_cancellable(progress, list_environments)
    other_apps = run_cancellable(progress, lambda: _other_apps(cloud, names))
    for id_ in candidates:
        users = other_apps.get(id_.lower())
        if resource_id.kind_of(id_) == resource_id.ENVIRONMENT and users:
            reasons.setdefault(id_.lower(), f"used by {', '.join(users)}")
    deleted = {id_.lower() for id_ in candidates} - set(reasons)
    remaining = [one for one in environments if one["id"].lower() not in deleted]
    deleted = {id_ for id_ in deleted if not resource_id.is_within(id_, reasons)}
    for id_ in candidates:
        kind = resource_id.kind_of(id_)
        if kind == resource_id.ACCOUNT:
            users = run_cancellable(progress, lambda id_=id_: _mounting(cloud, remaining, id_, deleted))
        elif kind == resource_id.WORKSPACE:
            users = run_cancellable(progress, lambda id_=id_: _logging(cloud, remaining, id_))
        else:
            continue
        if users:
            reasons.setdefault(id_.lower(), f"used by {', '.join(users)}")
    return reasons


def soft_deleted_share(cloud: Cloud, share_id: str) -> RemainingResource | None:
    """Return what remains of a deleted share if its account retains deleted shares, else None."""
    service = share_id.rpartition("/shares/")[0]
    policy = _properties(delete.get_resource(cloud, service) or {}).get("shareDeleteRetentionPolicy") or {}
    if not policy.get("enabled"):
        return None
    days = policy.get("days")
    return RemainingResource(
        share_id, f"kept for {days} days after it is deleted, and billed as before until then"
    )


def _other_apps(cloud: Cloud, names: ResourceNames) -> dict[str, list[str]]:
    """Return environment id in lower case → its apps other than this workspace's."""
    client: Any = cloud.containerapps(names.subscription)
    with translate_errors("list the apps of the subscription"):
        apps = [one.as_dict() for one in client.container_apps.list_by_subscription()]
    found = defaultdict[str, list[str]](list)
    for app in apps:
        if str(app["id"]).lower() != names.app_id.lower():
            found[AppState(app).environment_id.lower()].append(f"app {app['name']}")
    return found


def _mounting(cloud: Cloud, environments: list[Json], account: str, deleted: Iterable[str]) -> list[str]:
    """Return the environments that mount a share of the account by a storage that is not deleted."""
    account_name = account.rpartition("/")[2]
    found: list[str] = []
    for environment in environments:
        subscription, group, name = resource_id.parse_location(str(environment["id"]))
        client: Any = cloud.containerapps(subscription)
        with translate_errors(f"list the storages of the environment {name}"):
            listed = client.managed_environments_storages.list(group, name).as_dict()
        for storage in listed.get("value") or ():
            file: Json = _properties(storage).get("azureFile") or {}
            storage_id = f"{environment['id']}/storages/{storage['name']}".lower()
            if file.get("accountName") == account_name and storage_id not in deleted:
                found.append(f"environment {name}")
    return list(dict.fromkeys(found))


def _logging(cloud: Cloud, environments: list[Json], workspace: str) -> list[str]:
    """Return the environments that write their logs to the workspace."""
    customer = _properties(delete.get_resource(cloud, workspace) or {}).get("customerId")
    users = [one for one in environments if customer and EnvironmentState(one).log_workspace == customer]
    return [f"environment {one['name']}" for one in users]


def _properties(body: Json) -> Json:
    return body.get("properties") or {}
