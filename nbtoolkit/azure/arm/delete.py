"""Delete resources, and say of those that stay what they cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
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

MARKED = (ACCOUNT, ENVIRONMENT, WORKSPACE)
"""Kinds that the template gives the mark of the workspace that creates them."""

_STILL_HOLDS = "ManagedEnvironmentHasContainerApps"
_EMPTIED_SECONDS = 60.0
"""Seconds for an environment to notice that its app is gone."""
_PAUSE = 2.0


class _Kind(NamedTuple):
    version: str
    cost: str


_KINDS = {
    APP: _Kind("2026-07-01", "nothing while no replica runs, the GPU by the second while one does"),
    ENVIRONMENT_STORAGE: _Kind("2026-07-01", "costs nothing"),
    ENVIRONMENT: _Kind("2026-07-01", "nothing by itself; a dedicated profile has a fee for its management"),
    SHARE: _Kind("2026-09-01", "storage for what lies on it, by GB and month"),
    FILE_SERVICE: _Kind("2026-09-01", "costs nothing"),
    ACCOUNT: _Kind("2026-09-01", "storage for what lies in it, by GB and month"),
    WORKSPACE: _Kind("2025-07-01", "by GB of logs taken in, and for keeping them longer than 31 days"),
}
"""Type → API version, and what it costs while nothing runs; in the order of deletion."""


@dataclass(frozen=True)
class Left:
    """Something that stays, and what it still costs."""

    id: str
    cost: str
    why: str = ""
    """Why it stays, where a teardown of all might have been expected to delete it."""

    def __str__(self) -> str:
        return f"{title_of(self.id)}: {f'{self.why}; ' if self.why else ''}{self.cost}"


def in_order(ids: Sequence[str]) -> list[str]:
    """Return resources in the order in which they can be deleted; one inside another of them is left out."""
    kinds = list(_KINDS)
    lower = [one.lower() for one in ids]
    outer = [one for one in ids if not any(one.lower().startswith(f"{parent}/") for parent in lower)]
    return sorted(outer, key=lambda one: kinds.index(kind_of(one)) if kind_of(one) in kinds else len(kinds))


def exists(cloud: Cloud, resource_id: str) -> bool:
    """Tell whether a resource is there. One request."""

    return read(cloud, resource_id) is not None


def read(cloud: Cloud, resource_id: str) -> dict[str, Any] | None:
    """Return a resource as Azure describes it, None where it is not there. One request."""

    def look() -> Any:
        return _resources(cloud, resource_id).get_by_id(resource_id, api_version=_version(resource_id))

    found = or_none(f"look for {name_of(resource_id)}", look)
    return None if found is None else found.as_dict()


def tags(cloud: Cloud, resource_id: str) -> dict[str, str] | None:
    """Return a resource's tags, None where it is not there. One request."""
    found = read(cloud, resource_id)
    return None if found is None else dict(found.get("tags") or {})


def delete(cloud: Cloud, resource_id: str, progress: Progress) -> None:
    """Delete a resource and wait until it is gone; one that is missing is no error.

    Where another change of it runs, that is waited for. A cancel while it waits leaves Azure deleting.
    """
    progress.phase(f"Deleting {title_of(resource_id)}")

    def begin() -> Any:
        return _resources(cloud, resource_id).begin_delete_by_id(
            resource_id, api_version=_version(resource_id)
        )

    deadline = time.monotonic() + _EMPTIED_SECONDS
    while True:
        try:
            change(resource_id, f"delete the {title_of(resource_id)}", begin, progress)
            return
        except AzureFailed as error:
            if error.status == 404:
                return
            if error.code != _STILL_HOLDS or time.monotonic() >= deadline:
                raise
        progress.note("Azure still counts the app in it that was just deleted")
        progress.sleep(_PAUSE)


def left(cloud: Cloud, ids: Sequence[str]) -> list[Left]:
    """Return which of these resources are there, with what each still costs. One request each."""
    return [Left(one, _KINDS[kind_of(one)].cost) for one in ids if exists(cloud, one)]


def _resources(cloud: Cloud, resource_id: str) -> Any:  # its generated signatures are not strict
    return cloud.resources(resource_id.split("/")[2]).resources


def _version(resource_id: str) -> str:
    return _KINDS[kind_of(resource_id)].version
