"""The tree of a deployment: resources and modules with their dependencies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .resource_ids import ResourceId
from .templates import Evaluated, PlannedResource

DEPLOYMENT = "Microsoft.Resources/deployments"


@dataclass
class Module:
    """The requested deployment, or a nested one."""

    id: ResourceId
    symbol: str
    depends: tuple[str, ...] = ()
    version: str = "2025-04-01"
    steps: list[Module | PlannedResource] = field(default_factory=list)

    def resources(self) -> Iterator[PlannedResource]:
        """All resources below."""
        for step in self.steps:
            if isinstance(step, Module):
                yield from step.resources()
            else:
                yield step

    def needed_by(self, step: Module | PlannedResource) -> list[Module | PlannedResource]:
        """The steps of this module that must have ended before one begins."""
        return [other for other in self.steps if other is not step and set(step.depends) & _names(other)]


def tree(deployment: ResourceId, evaluated: Evaluated) -> Module:
    """Put evaluated resources back into their modules."""
    root = Module(deployment, "")
    modules: dict[tuple[str, ...], Module] = {(): root}
    names = {planned.path[:-1]: planned.module for planned in evaluated.planned}
    for planned in evaluated.planned:
        for depth in range(1, len(planned.path)):
            path = planned.path[:depth]
            if path in modules:
                continue
            id = ResourceId(
                deployment.subscription,
                deployment.group,
                *("Microsoft.Resources", ("deployments",)),
                (names.get(path, path[-1]),),
            )
            modules[path] = Module(id, path[-1], evaluated.modules[path])
            modules[path[:-1]].steps.append(modules[path])
        modules[planned.path[:-1]].steps.append(planned)
    return root


def symbol(step: Module | PlannedResource) -> str:
    """A step's symbolic name in its module."""
    return step.symbol if isinstance(step, Module) else step.path[-1]


def _names(step: Module | PlannedResource) -> set[str]:
    return {symbol(step), step.id.key}
