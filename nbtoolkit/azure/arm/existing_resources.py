"""Discover which of the app's resources exist; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import or_none, translate_errors
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_all_cancellable, run_cancellable

Body = Mapping[str, Any]
_FINAL_STATES = ("Succeeded", "Failed", "Canceled", None)
SETTLE_TIMEOUT = 900.0
"""Seconds that a step waits for a change of the environment or the app to end."""


@dataclass(frozen=True)
class ExistingResources:
    """One snapshot: the body of each resource, None if it does not exist. Holds no secret's value."""

    names: ResourceNames
    group: Body | None = None
    storage_account: Body | None = None
    file_share: Body | None = None
    log_analytics: Body | None = None
    environment: Body | None = None
    environment_storage: Body | None = None
    app: Body | None = None

    @property
    def location(self) -> str | None:
        """The region of all resources: the environment's, else the group's."""
        body = self.environment or self.group
        return normalize_region(str(body["location"])) if body else None

    @property
    def profiles(self) -> list[Body]:
        """The environment's workload profiles; empty if it has only Consumption."""
        return list(_properties(self.environment).get("workloadProfiles") or ())

    @property
    def changing(self) -> bool:
        """Return whether Azure is changing the environment or the app."""
        bodies = (self.environment, self.app)
        return any(_properties(body).get("provisioningState") not in _FINAL_STATES for body in bodies)

    @property
    def to_create(self) -> list[str]:
        """The ids of the resources that do not exist."""
        return [id_ for name, id_ in self.names.ids.items() if getattr(self, name) is None]


def discover(
    cloud: Cloud,
    names: ResourceNames,
    progress: Progress,
    resolve_names: Callable[[str, Body | None], ResourceNames] | None = None,
) -> ExistingResources:
    """Return what exists, in at most seven requests and the time of four. Raises :class:`AzureFailed`.

    Default names depend on the group id as Azure spells it, and an existing app is bound to an environment:
    ``resolve_names`` returns the names, given that id and the app's body, None before it was read. The group
    of ``names`` decides which resource group is read.
    """
    resolve = resolve_names or (lambda _id, _app: names)
    groups: Any = cloud.resources(names.subscription).resource_groups
    group = _get_all({"resource_group": partial(groups.get, names.resource_group)}, progress)[
        "resource_group"
    ]
    if group is None:
        return ExistingResources(names)
    group_id = str(group.get("id") or names.group_id)
    requests = _requests(cloud, resolve(group_id, None), "app", "storage_account", "log_analytics")
    first = _get_all(requests, progress)
    bound = resolve(group_id, first["app"])
    share = ["file_share"] if first["storage_account"] is not None else []
    second = _get_all(_requests(cloud, bound, "environment", *share), progress)
    return _with_environment_storage(ExistingResources(bound, group, **first, **second), cloud, progress)


def wait_until_settled(existing: ExistingResources, cloud: Cloud, progress: Progress) -> ExistingResources:
    """Return the snapshot with environment and app as they are after the change that Azure makes of them.

    Of the rest only the environment's storage is read again, as it can appear meanwhile. See
    :func:`settled` for the time limit.
    """
    snapshot = replace(
        existing,
        environment=settled("environment", cloud, existing.names, progress),
        app=settled("app", cloud, existing.names, progress),
    )
    return _with_environment_storage(snapshot, cloud, progress)


def _with_environment_storage(
    existing: ExistingResources, cloud: Cloud, progress: Progress
) -> ExistingResources:
    if existing.environment is None:
        return replace(existing, environment_storage=None)
    return replace(existing, **_get_all(_requests(cloud, existing.names, "environment_storage"), progress))


def app_secrets(cloud: Cloud, names: ResourceNames, progress: Progress) -> list[dict[str, Any]]:
    """Return the app's secrets with their values; keep them in memory only."""
    client: Any = cloud.containerapps(names.subscription)

    def request() -> Any:
        return client.container_apps.list_secrets(names.resource_group, names.app).value

    found = run_cancellable(progress, lambda: or_none(f"list the secrets of the app {names.app}", request))
    return [one.as_dict() for one in found or ()]


def settled(
    kind: Literal["environment", "app"], cloud: Cloud, names: ResourceNames, progress: Progress
) -> Body | None:
    """Return the environment or the app once no change of it runs, None if it does not exist.

    After :data:`SETTLE_TIMEOUT` returns it in its present state.
    """
    request, name, body = _requests(cloud, names, kind), getattr(names, kind), None

    def is_settled() -> bool:
        nonlocal body
        body = _get_all(request, progress)[kind]
        state = _properties(body).get("provisioningState")
        if body is None or state in _FINAL_STATES:
            return True
        progress.note(f"Azure still works on the {kind} {name} ({state})")
        return False

    progress.wait_until(is_settled, timeout=SETTLE_TIMEOUT, interval=cloud.poll_interval)
    return body


def environment_is_empty(cloud: Cloud, names: ResourceNames, progress: Progress) -> bool:
    """Return whether no app of the subscription is in the environment. One request per page of apps."""
    client: Any = cloud.containerapps(names.subscription)
    environment_id = names.environment_id.lower()

    def request() -> bool:
        with translate_errors(f"list the apps of the environment {names.environment}"):
            apps = (app.as_dict() for app in client.container_apps.list_by_subscription())
            return all(str(_properties(app).get("environmentId")).lower() != environment_id for app in apps)

    return run_cancellable(progress, request)


def _requests(cloud: Cloud, names: ResourceNames, *kinds: str) -> dict[str, Callable[[], Any]]:
    """Return the requests that read resources of some kinds."""
    apps: Any = cloud.containerapps(names.subscription)
    storage: Any = cloud.storage(names.subscription)
    logs: Any = cloud.workspaces(names.subscription)
    group, account = names.resource_group, names.storage_account
    environment, mount = names.environment, names.environment_storage
    requests = {
        "app": partial(apps.container_apps.get, group, names.app),
        "storage_account": partial(storage.storage_accounts.get_properties, group, account),
        "file_share": partial(storage.file_shares.get, group, account, names.file_share),
        "log_analytics": partial(logs.workspaces.get, group, names.log_analytics),
        "environment": partial(apps.managed_environments.get, group, environment),
        "environment_storage": partial(apps.managed_environments_storages.get, group, environment, mount),
    }
    return {kind: requests[kind] for kind in kinds}


def _get_all(requests: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Any]:
    """Return the body of each resource, None if it does not exist; sends all requests at once."""
    calls = {
        kind: partial(or_none, f"read the {kind.replace('_', ' ')}", request)
        for kind, request in requests.items()
    }
    found = {kind: future.result() for kind, future in run_all_cancellable(progress, calls).items()}
    return {kind: None if one is None else one.as_dict() for kind, one in found.items()}


def _properties(body: Body | None) -> Body:
    return (body or {}).get("properties") or {}
