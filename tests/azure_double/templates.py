"""Templates, evaluated by the compiler's engine, with their modules and dependencies."""

from __future__ import annotations

import atexit
import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.bicep_compiler import BicepCompiler, BicepFailed

from . import template_parameters
from .http import Refused
from .resource_ids import ResourceId
from .tokens import TENANT

DEPLOYMENTS = "microsoft.resources/deployments"
_MARK = "zones"
"""A property of every resource that the engine evaluates and passes on; no template uses it."""
_PARAMETER = "doubleParameter_"
_starting = threading.Lock()
_compiler: BicepCompiler | None = None


@dataclass(frozen=True)
class PlannedResource:
    """A resource of a template whose condition is true."""

    id: ResourceId
    path: tuple[str, ...]
    """Symbolic names from the outermost module to the resource."""
    module: str
    """The name of the deployment it is in."""
    depends: tuple[str, ...]
    """Symbolic names in its module, or ids in lower case."""
    version: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """An evaluated template; texts in brackets are evaluated against the live state."""

    planned: tuple[PlannedResource, ...]
    outputs: dict[str, Any]
    parameters: dict[str, Any]
    """All parameters with their defaults, secure ones too: for execution only."""
    modules: dict[tuple[str, ...], tuple[str, ...]]
    """The dependencies of each module, by its path."""


def evaluate(
    template: Mapping[str, Any],
    values: Mapping[str, Any],
    deployment: ResourceId,
    location: str,
    *,
    run: bool,
) -> Evaluated:
    """Evaluate a template with plain parameter values in a deployment's place.

    With `run` secure values are in the result and times and GUIDs are decided; without, both stay text, as
    in a what-if. Refuses as ARM refuses a template.
    """
    marked = template_parameters.for_execution(template) if run else copy.deepcopy(dict(template))
    modules: dict[tuple[str, ...], tuple[str, ...]] = {}
    _mark(marked, (), modules)
    outputs = marked.setdefault("outputs", {})
    for name, entry in (template.get("parameters") or {}).items():
        if run:
            kind = str(entry.get("type", "object")).lower().removeprefix("secure")
            nullable = {"nullable": True} if entry.get("nullable") else {}
            outputs[_PARAMETER + name] = {"type": kind, **nullable, "value": f"[parameters('{name}')]"}
    try:
        found = _snapshot(marked, values, deployment, location)
    except BicepFailed as failed:
        raise template_parameters.invalid(str(failed)) from failed
    results = {
        name: value for name, value in found.get("outputs", {}).items() if not name.startswith(_PARAMETER)
    }
    start = len(_PARAMETER)
    known = {
        name[start:]: value for name, value in found.get("outputs", {}).items() if name.startswith(_PARAMETER)
    }
    planned = tuple(_planned(resource) for resource in found["predictedResources"] if _MARK in resource)
    return Evaluated(planned, results, known, modules)


def compiler() -> BicepCompiler:
    """The compiler of this process, started once (a second or more)."""
    global _compiler
    with _starting:
        if _compiler is None:
            try:
                _compiler = BicepCompiler().__enter__()
            except FileNotFoundError as error:
                raise Refused(501, "NoCompiler", f"The double needs the Bicep compiler: {error}") from error
            atexit.register(_compiler.__exit__, None, None, None)
        return _compiler


def _snapshot(
    template: Mapping[str, Any], values: Mapping[str, Any], deployment: ResourceId, location: str
) -> dict[str, Any]:
    return compiler().snapshot(
        template,
        values,
        subscription=deployment.subscription,
        resource_group=deployment.group or "",
        location=location,
        deployment_name=deployment.name,
        tenant=TENANT,
    )


def _mark(
    template: dict[str, Any], path: tuple[str, ...], modules: dict[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Add to every resource its path and its dependencies."""
    resources = template.get("resources") or {}
    entries = resources.items() if isinstance(resources, dict) else enumerate(resources)
    for symbol, resource in entries:
        if resource.get("existing"):
            continue
        place = (*path, str(symbol))
        depends = resource.get("dependsOn", [])
        if str(resource.get("type", "")).lower() != DEPLOYMENTS:
            resource[_MARK] = ["/".join(place), "[deployment().name]", *depends]
            continue
        if any(entry.startswith("[") for entry in depends):
            raise template_parameters.invalid(
                "the double knows what a module depends on by symbolic names only (languageVersion 2.0)"
            )
        modules[place] = tuple(depends)
        _mark(resource["properties"]["template"], place, modules)


def _planned(resource: dict[str, Any]) -> PlannedResource:
    place, module, *depends = resource[_MARK]
    id = ResourceId.parse(resource["id"])
    assert id is not None
    body = {
        key: value
        for key, value in resource.items()
        if key not in (_MARK, "id", "type", "name", "apiVersion")
    }
    lowered = tuple(entry.lower() if entry.startswith("/") else entry for entry in depends)
    return PlannedResource(id, tuple(place.split("/")), module, lowered, resource["apiVersion"], body)
