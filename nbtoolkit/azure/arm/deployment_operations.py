"""The state of a deployment, and its operation on each resource."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbtoolkit.azure.errors.arm_error import Cause, explain, with_target
from nbtoolkit.azure.resource_id import DEPLOYMENT, kind_of, title_of

if TYPE_CHECKING:
    from azure.mgmt.resource.deployments import DeploymentsMgmtClient

_RUNNING = ("Accepted", "Created", "Creating", "NotSpecified", "Ready", "Running", "Updating", "Deleting")
_STATUS_TEXTS = {"Succeeded": "done", "Failed": "failed", "Canceled": "cancelled"}
"""Text of each final status."""
_MAX_DEPTH = 4
"""Levels of modules inside of modules that are read."""


@dataclass(frozen=True)
class DeploymentState:
    """The state of a deployment: ``status`` is Azure's provisioning state, with its outputs or its error.

    The names of ``outputs`` are in capitals.
    """

    status: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: Mapping[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Return whether the deployment has not ended."""
        return self.status in _RUNNING

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> DeploymentState:
        """Parse the body of a deployment."""
        properties = _properties(body)
        # Azure returns a name like STORAGE_ID as storagE_ID
        outputs = {key.upper(): one.get("value") for key, one in (properties.get("outputs") or {}).items()}
        status = str(properties.get("provisioningState") or "Running")
        return cls(status, body.get("tags") or {}, outputs, properties.get("error"))


@dataclass(frozen=True)
class DeploymentOperation:
    """A deployment's operation on one resource; ``creates`` tells whether it writes the resource."""

    id: str
    status: str
    creates: bool
    causes: tuple[Cause, ...] = ()

    @property
    def running(self) -> bool:
        """Return whether the operation has not ended."""
        return self.status not in _STATUS_TEXTS

    @property
    def title(self) -> str:
        """The resource as kind and name."""
        return title_of(self.id)

    @property
    def status_text(self) -> str:
        """The status in plain words."""
        return _STATUS_TEXTS.get(self.status, "being created")


def list_operations(client: DeploymentsMgmtClient, group: str, name: str) -> list[DeploymentOperation]:
    """Return the operations of a deployment and its modules, one per resource, in the order of their start.

    One request for each module and one more.
    """
    found: dict[str, DeploymentOperation] = {}
    for body in _list(client, group, name, _MAX_DEPTH):
        operation = _parse(body)
        if operation and (operation.creates or operation.causes):
            found[operation.id] = operation
    return list(found.values())


def _list(client: DeploymentsMgmtClient, group: str, name: str, depth: int) -> Iterator[Mapping[str, Any]]:
    bodies = [one.as_dict() for one in client.deployment_operations.list(group, name)]
    for body in sorted(bodies, key=lambda one: str(_properties(one).get("timestamp") or "")):
        target = _target(body)
        if kind_of(target) != DEPLOYMENT:
            yield body
            continue
        inner = list(_list_module(client, target, depth - 1)) if depth else []
        yield from inner
        if not any(_properties(part).get("provisioningState") == "Failed" for part in inner):
            yield body  # the module may have failed before any of its resources started


def _list_module(client: DeploymentsMgmtClient, target: str, depth: int) -> Iterator[Mapping[str, Any]]:
    from azure.core.exceptions import ResourceNotFoundError

    parts = target.split("/")
    try:
        yield from _list(client, parts[4], parts[-1], depth)
    except ResourceNotFoundError:
        return  # a module that has not started has no operations yet


def _parse(body: Mapping[str, Any]) -> DeploymentOperation | None:
    target, properties = _target(body), _properties(body)
    if not target:
        return None
    status = str(properties.get("provisioningState") or "Running")
    is_module = kind_of(target) == DEPLOYMENT
    causes: list[Cause] = []
    if status == "Failed":
        causes = with_target(explain(properties.get("statusMessage")), None if is_module else target)
    # "Read" operations are references to existing resources and write nothing
    creates = properties.get("provisioningOperation", "Create") == "Create" and not is_module
    return DeploymentOperation(target, status, creates, tuple(causes))


def _properties(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return body.get("properties") or {}


def _target(body: Mapping[str, Any]) -> str:
    return str((_properties(body).get("targetResource") or {}).get("id") or "")
