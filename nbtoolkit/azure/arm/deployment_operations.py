"""What a deployment does to each resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.errors.arm_error import Cause, explain, prefixed
from nbtoolkit.azure.resource_id import DEPLOYMENT, kind_of, title_of

if TYPE_CHECKING:
    from azure.mgmt.resource.deployments import DeploymentsMgmtClient

_ENDED = ("Succeeded", "Failed", "Canceled")
_WORDS = {"Succeeded": "done", "Failed": "failed", "Canceled": "cancelled"}


@dataclass(frozen=True)
class Step:
    """One resource of a deployment; ``creates`` tells whether Azure writes it, not only reads it."""

    id: str
    status: str
    creates: bool
    causes: tuple[Cause, ...] = ()

    @property
    def running(self) -> bool:
        """Tell whether Azure still works on it."""
        return self.status not in _ENDED

    @property
    def title(self) -> str:
        """The resource as kind and name."""
        return title_of(self.id)

    @property
    def words(self) -> str:
        """Where it stands, in a word."""
        return _WORDS.get(self.status, "being created")


def read_steps(client: DeploymentsMgmtClient, group: str, name: str) -> list[Step]:
    """Return the steps of a deployment and of its modules, one for each resource, in the order begun.

    One request for each module and one more.
    """
    found: dict[str, Step] = {}
    for one in _operations(client, group, name, depth=4):
        step = _step(one)
        if step and (step.creates or step.causes):
            found[step.id] = step
    return list(found.values())


def _operations(
    client: DeploymentsMgmtClient, group: str, name: str, depth: int
) -> Iterator[Mapping[str, Any]]:
    listed = [one.as_dict() for one in client.deployment_operations.list(group, name)]
    for one in sorted(listed, key=lambda operation: str(_properties(operation).get("timestamp") or "")):
        target = _target(one)
        if kind_of(target) != DEPLOYMENT:
            yield one
            continue
        inner = list(_inner(client, target, depth - 1)) if depth else []
        yield from inner
        if not any(_properties(part).get("provisioningState") == "Failed" for part in inner):
            yield one  # it may have failed before any of its resources began


def _inner(client: DeploymentsMgmtClient, target: str, depth: int) -> Iterator[Mapping[str, Any]]:
    from azure.core.exceptions import ResourceNotFoundError

    parts = target.split("/")
    try:
        yield from _operations(client, parts[4], parts[-1], depth)
    except ResourceNotFoundError:
        return  # a module that has not begun has no operations yet


def _step(operation: Mapping[str, Any]) -> Step | None:
    target, properties = _target(operation), _properties(operation)
    if not target:
        return None
    status = str(properties.get("provisioningState") or "Running")
    causes = (
        prefixed(explain(properties.get("statusMessage")), target if kind_of(target) != DEPLOYMENT else None)
        if status == "Failed"
        else []
    )
    # "Read" operations are references to what exists; they change nothing
    creates = properties.get("provisioningOperation", "Create") == "Create" and kind_of(target) != DEPLOYMENT
    return Step(target, status, creates, tuple(causes))


def _properties(operation: Mapping[str, Any]) -> Mapping[str, Any]:
    return operation.get("properties") or {}


def _target(operation: Mapping[str, Any]) -> str:
    return str((_properties(operation).get("targetResource") or {}).get("id") or "")
