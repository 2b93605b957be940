"""Delete resources, and state what each remaining one costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import or_none
from nbtoolkit.azure.resource_id import (
    ACCOUNT,
    APP,
    ENVIRONMENT,
    ENVIRONMENT_STORAGE,
    FILE_SERVICE,
    SHARE,
    WORKSPACE,
    kind_of,
    name_of,
    title_of,
)
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress

TAGGED_KINDS = (ACCOUNT, ENVIRONMENT, WORKSPACE)
"""Kinds of resources that the template tags with the workspace that creates them."""

_HAS_APPS = "ManagedEnvironmentHasContainerApps"
_COUNT_TIMEOUT = 60.0
"""Seconds for which an environment may still count an app that was just deleted."""


class _Kind(NamedTuple):
    api_version: str
    cost: str


_KINDS = {
    APP: _Kind("2026-07-01", "nothing while no replica runs, the GPU by the second while one does"),
    ENVIRONMENT_STORAGE: _Kind("2026-07-01", "costs nothing"),
    ENVIRONMENT: _Kind("2026-07-01", "costs nothing itself; a dedicated profile has a management fee"),
    SHARE: _Kind("2026-09-01", "storage for its content, by GB and month"),
    FILE_SERVICE: _Kind("2026-09-01", "costs nothing"),
    ACCOUNT: _Kind("2026-09-01", "storage for its content, by GB and month"),
    WORKSPACE: _Kind("2025-07-01", "by GB of ingested logs, and for retention beyond 31 days"),
}
"""Type → API version, and what it costs while nothing runs; in the order of deletion."""


@dataclass(frozen=True)
class RemainingResource:
    """A resource that is not deleted, and what it still costs."""

    id: str
    cost: str
    reason: str = ""
    """Why it is kept, if a teardown of everything might have been expected to delete it."""

    def __str__(self) -> str:
        return f"{title_of(self.id)}: {f'{self.reason}; ' if self.reason else ''}{self.cost}"


def deletion_order(ids: Sequence[str]) -> list[str]:
    """Return resources in the order in which they can be deleted, without those inside of another one."""
    kinds = list(_KINDS)
    lower = [id_.lower() for id_ in ids]
    outer = [id_ for id_ in ids if not any(id_.lower().startswith(f"{parent}/") for parent in lower)]
    return sorted(outer, key=lambda id_: kinds.index(kind_of(id_)) if kind_of(id_) in kinds else len(kinds))


def exists(cloud: Cloud, resource_id: str) -> bool:
    """Return whether a resource exists. One request."""
    return get_resource(cloud, resource_id) is not None


def get_resource(cloud: Cloud, resource_id: str) -> dict[str, Any] | None:
    """Return the body of a resource, None if it does not exist. One request."""
    client, version = _client(cloud, resource_id)
    found = or_none(
        f"look for {name_of(resource_id)}", lambda: client.get_by_id(resource_id, api_version=version)
    )
    return None if found is None else found.as_dict()


def delete(cloud: Cloud, resource_id: str, progress: Progress) -> None:
    """Delete a resource and wait until it is deleted; a missing one is not an error.

    Waits for other changes of the resource. An environment that still counts a deleted app is tried again
    for a minute. After a cancel Azure continues to delete.
    """
    progress.phase(f"Deleting {title_of(resource_id)}")
    refusal: AzureFailed | None = None

    client, version = _client(cloud, resource_id)
    begin = partial(client.begin_delete_by_id, resource_id, api_version=version)
    action = f"delete the {title_of(resource_id)}"

    def deleted() -> bool:
        nonlocal refusal
        try:
            change(resource_id, action, begin, progress, retry_interval=cloud.poll_interval)
        except AzureFailed as error:
            if error.status == 404:
                return True
            if error.code != _HAS_APPS:
                raise
            refusal = error
            progress.note("Azure still counts the app in it that was just deleted")
            return False
        return True

    if not progress.wait_until(deleted, timeout=_COUNT_TIMEOUT, interval=cloud.poll_interval) and refusal:
        raise refusal


def remaining(cloud: Cloud, ids: Sequence[str]) -> list[RemainingResource]:
    """Return which of these resources exist, with what each still costs. One request each."""
    return [RemainingResource(id_, _KINDS[kind_of(id_)].cost) for id_ in ids if exists(cloud, id_)]


def _client(cloud: Cloud, resource_id: str) -> tuple[Any, str]:  # its generated signatures are not strict
    return cloud.resources(resource_id.split("/")[2]).resources, _KINDS[kind_of(resource_id)].api_version
