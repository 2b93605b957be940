"""Discover which of the app's resources exist; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nbtoolkit.azure import sdk
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
        """Tell whether Azure is changing the environment or the app."""
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
    group = _get(lambda: groups.get(names.resource_group), "resource group", progress)
    if group is None:
        return ExistingResources(names)
    group_id, where = str(group.get("id") or names.group_id), names.resource_group
    apps: Any = cloud.containerapps(names.subscription)
    storage: Any = cloud.storage(names.subscription)
    logs: Any = cloud.workspaces(names.subscription)
    spelled = resolve(group_id, None)
    first = _get_all(
        {
            "app": partial(apps.container_apps.get, where, spelled.app),
            "storage_account": partial(
                storage.storage_accounts.get_properties, where, spelled.storage_account
            ),
            "log_analytics": partial(logs.workspaces.get, where, spelled.log_analytics),
        },
        progress,
    )
    bound = resolve(group_id, first["app"])
    second: dict[str, Callable[[], Any]] = {
        "environment": partial(apps.managed_environments.get, where, bound.environment)
    }
    if first["storage_account"] is not None:
        share = partial(storage.file_shares.get, where, bound.storage_account, bound.file_share)
        second["file_share"] = share
    found = ExistingResources(bound, group, **first, **_get_all(second, progress))
    return _with_environment_storage(found, cloud, progress)


def wait_until_settled(existing: ExistingResources, cloud: Cloud, progress: Progress) -> ExistingResources:
    """Return the snapshot with environment and app as they are after the change that Azure makes of them.

    Of the rest only the environment's storage is read again, as it can appear meanwhile. See
    :func:`settled_environment` for the time limit.
    """
    settled = replace(
        existing,
        environment=settled_environment(cloud, existing.names, progress),
        app=settled_app(cloud, existing.names, progress),
    )
    return _with_environment_storage(settled, cloud, progress)


def _with_environment_storage(
    existing: ExistingResources, cloud: Cloud, progress: Progress
) -> ExistingResources:
    names, mount = existing.names, None
    if existing.environment is not None:
        apps: Any = cloud.containerapps(names.subscription)
        request = partial(
            apps.managed_environments_storages.get,
            names.resource_group,
            names.environment,
            names.environment_storage,
        )
        mount = _get(request, "environment storage", progress)
    return replace(existing, environment_storage=mount)


def app_secrets(cloud: Cloud, names: ResourceNames, progress: Progress) -> list[dict[str, Any]]:
    """Return the app's secrets with their values; keep them in memory only."""
    client: Any = cloud.containerapps(names.subscription)

    def request() -> Any:
        return client.container_apps.list_secrets(names.resource_group, names.app).value

    found = run_cancellable(progress, lambda: or_none(f"list the secrets of the app {names.app}", request))
    return [one.as_dict() for one in found or ()]


def settled_environment(
    cloud: Cloud, names: ResourceNames, progress: Progress, timeout: float | None = None
) -> Body | None:
    """Return the environment once no change of it runs, None if it does not exist.

    After ``timeout`` seconds (default: :data:`SETTLE_TIMEOUT`) returns it in its present state.
    """
    client: Any = cloud.containerapps(names.subscription)
    request = partial(client.managed_environments.get, names.resource_group, names.environment)
    return _settled("environment", names.environment, request, progress, timeout)


def settled_app(
    cloud: Cloud, names: ResourceNames, progress: Progress, timeout: float | None = None
) -> Body | None:
    """Return the app once no change of it runs; see :func:`settled_environment`."""
    client: Any = cloud.containerapps(names.subscription)
    request = partial(client.container_apps.get, names.resource_group, names.app)
    return _settled("app", names.app, request, progress, timeout)


def environment_is_empty(cloud: Cloud, names: ResourceNames, progress: Progress) -> bool:
    """Tell whether no app of the subscription is in the environment. One request per page of apps."""
    client: Any = cloud.containerapps(names.subscription)
    environment_id = names.environment_id.lower()

    def request() -> bool:
        with translate_errors(f"list the apps of the environment {names.environment}"):
            apps = (app.as_dict() for app in client.container_apps.list_by_subscription())
            return all(str(_properties(app).get("environmentId")).lower() != environment_id for app in apps)

    return run_cancellable(progress, request)


def _settled(
    kind: str, name: str, request: Callable[[], Any], progress: Progress, timeout: float | None
) -> Body | None:
    body: Body | None = None

    def settled() -> bool:
        nonlocal body
        body = _get(request, kind, progress)
        state = _properties(body).get("provisioningState")
        if body is None or state in _FINAL_STATES:
            return True
        progress.note(f"Azure still works on the {kind} {name} ({state})")
        return False

    limit = SETTLE_TIMEOUT if timeout is None else timeout
    progress.wait_until(settled, timeout=limit, interval=sdk.POLL_INTERVAL)
    return body


def _get(request: Callable[[], Any], kind: str, progress: Progress) -> Body | None:
    return run_cancellable(progress, lambda: _body(request, kind))


def _get_all(requests: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Body | None]:
    calls = {name: partial(_body, request, name.replace("_", " ")) for name, request in requests.items()}
    return {name: future.result() for name, future in run_all_cancellable(progress, calls).items()}


def _body(request: Callable[[], Any], kind: str) -> Body | None:
    found = or_none(f"read the {kind}", request)
    return None if found is None else found.as_dict()


def _properties(body: Body | None) -> Body:
    return (body or {}).get("properties") or {}
