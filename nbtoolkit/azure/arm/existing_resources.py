"""What exists already of what the inference app needs; nothing here changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.quota import region_name
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import or_none, translate_errors
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_all_cancellable, run_cancellable

Body = Mapping[str, Any]
_ENDED = ("Succeeded", "Failed", "Canceled", None)
_PATIENCE = 900.0


@dataclass(frozen=True)
class ExistingResources:
    """Each resource as Azure describes it, None where there is none. Holds no secret's value."""

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
        """The region that all of it is in or goes to: the environment's, else the group's."""
        body = self.environment or self.group
        return region_name(str(body["location"])) if body else None

    @property
    def profiles(self) -> list[Body]:
        """The environment's workload profiles; none where it has only Consumption."""
        return list(_properties(self.environment).get("workloadProfiles") or ())

    @property
    def changing(self) -> bool:
        """Tell whether Azure works on the environment or the app right now."""
        bodies = (self.environment, self.app)
        return any(_properties(body).get("provisioningState") not in _ENDED for body in bodies)

    @property
    def to_create(self) -> list[str]:
        """The ids of what does not exist."""
        return [id_ for name, id_ in self.names.ids.items() if getattr(self, name) is None]


def read(cloud: Cloud, names: ResourceNames, progress: Progress) -> ExistingResources:
    """Return what there is; seven requests at most, in the time of three. Raises :class:`AzureFailed`."""
    groups: Any = cloud.resources(names.subscription).resource_groups
    group = run_cancellable(progress, lambda: _ask(lambda: groups.get(names.resource_group)))
    if group is None:
        return ExistingResources(names)
    apps: Any = cloud.containerapps(names.subscription)
    storage: Any = cloud.storage(names.subscription)
    logs: Any = cloud.workspaces(names.subscription)
    where = names.resource_group
    outer: dict[str, Callable[[], Any]] = {
        "storage_account": lambda: storage.storage_accounts.get_properties(where, names.storage_account),
        "log_analytics": lambda: logs.workspaces.get(where, names.log_analytics),
        "environment": lambda: apps.managed_environments.get(where, names.environment),
        "app": lambda: apps.container_apps.get(where, names.app),
    }
    inner: dict[str, tuple[str, Callable[[], Any]]] = {
        "file_share": (
            "storage_account",
            lambda: storage.file_shares.get(where, names.storage_account, names.file_share),
        ),
        "environment_storage": (
            "environment",
            lambda: apps.managed_environments_storages.get(
                where, names.environment, names.environment_storage
            ),
        ),
    }
    found = _all(outer, progress)
    within = {name: ask for name, (parent, ask) in inner.items() if found[parent] is not None}
    return ExistingResources(names, group, **found, **_all(within, progress))


def _all(questions: Mapping[str, Callable[[], Any]], progress: Progress) -> dict[str, Body | None]:
    asked = run_all_cancellable(progress, {name: partial(_ask, ask, name) for name, ask in questions.items()})
    return {name: answer.result() for name, answer in asked.items()}


def secrets_of(cloud: Cloud, names: ResourceNames, progress: Progress) -> list[dict[str, Any]]:
    """Return the app's secrets with their values; keep them in memory only."""
    client: Any = cloud.containerapps(names.subscription)

    def ask() -> Any:
        return client.container_apps.list_secrets(names.resource_group, names.app).value

    found = run_cancellable(progress, lambda: or_none(f"list the secrets of the app {names.app}", ask))
    return [one.as_dict() for one in found or ()]


def settled(cloud: Cloud, names: ResourceNames, progress: Progress) -> Body | None:
    """Return the environment once Azure has ended what it does to it, None where there is none.

    After a quarter of an hour it is returned as it is.
    """
    client: Any = cloud.containerapps(names.subscription)
    look = partial(client.managed_environments.get, names.resource_group, names.environment)
    return _settled("environment", names.environment, look, progress)


def settled_app(cloud: Cloud, names: ResourceNames, progress: Progress) -> Body | None:
    """Return the app by the same rule."""
    client: Any = cloud.containerapps(names.subscription)
    return _settled(
        "app", names.app, partial(client.container_apps.get, names.resource_group, names.app), progress
    )


def _settled(what: str, name: str, look: Callable[[], Any], progress: Progress) -> Body | None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        body = run_cancellable(progress, lambda: _ask(look, what))
        state = _properties(body).get("provisioningState")
        if body is None or state in _ENDED or time.monotonic() >= deadline:
            return body
        progress.note(f"Azure still works on the {what} {name} ({state})")
        progress.sleep(sdk.POLL_INTERVAL)


def is_empty(cloud: Cloud, names: ResourceNames, progress: Progress) -> bool:
    """Tell whether no app of the subscription is in the environment. One request a page of apps."""
    client: Any = cloud.containerapps(names.subscription)
    wanted = names.ids["environment"].lower()

    def look() -> bool:
        with translate_errors(f"list the apps of the environment {names.environment}"):
            found = (one.as_dict() for one in client.container_apps.list_by_subscription())
            return all(str(_properties(app).get("environmentId")).lower() != wanted for app in found)

    return run_cancellable(progress, look)


def _ask(ask: Callable[[], Any], what: str = "resource_group") -> Body | None:
    found = or_none(f"read the {what.replace('_', ' ')}", ask)
    return None if found is None else found.as_dict()


def _properties(body: Body | None) -> Body:
    return (body or {}).get("properties") or {}
