"""Response bodies of deployments."""

from __future__ import annotations

import copy
import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from . import template_parameters
from .clock import Clock
from .deployment_run import Run
from .deployment_tree import DEPLOYMENT, Module
from .resource_ids import ResourceId
from .resource_kind import Call
from .templates import Evaluated, PlannedResource


def deployment(
    call: Call, template: Mapping[str, Any], values: Mapping[str, Any], evaluated: Evaluated, root: Module
) -> dict[str, Any]:
    """A deployment that has just been accepted."""
    tags = {"tags": call.body["tags"]} if call.body.get("tags") else {}
    head = {"id": str(call.id), "name": call.id.name, "type": DEPLOYMENT, **tags}
    properties = {
        "templateHash": _hash(template),
        "parameters": template_parameters.echo(template, {**evaluated.parameters, **values}),
        "mode": "Incremental",
        "provisioningState": "Accepted",
        "timestamp": Clock.stamp(),
        "duration": "PT0.0004326S",
        "correlationId": str(uuid.uuid4()),
        "providers": _providers(root),
        "dependencies": _dependencies(root),
    }
    return {**head, "properties": properties}


def validated(
    call: Call, template: Mapping[str, Any], values: Mapping[str, Any], evaluated: Evaluated, root: Module
) -> dict[str, Any]:
    """Return the response of a successful validation."""
    body = deployment(call, template, values, evaluated, root)
    resources = [{"id": str(id)} for id in _ids(root)]
    body["properties"] |= {
        "provisioningState": "Succeeded",
        "duration": "PT0S",
        "validatedResources": resources,
    }
    return body


def nested(module: Module) -> dict[str, Any]:
    """A module's own deployment."""
    properties = {
        "templateHash": "0",
        "parameters": {},
        "mode": "Incremental",
        "provisioningState": "Accepted",
        "timestamp": Clock.stamp(),
        "duration": "PT0S",
        "correlationId": str(uuid.uuid4()),
        "providers": _providers(module),
        "dependencies": _dependencies(module),
    }
    return {"id": str(module.id), "name": module.id.name, "type": DEPLOYMENT, "properties": properties}


def finish(run: Run, template: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Store the outputs of a successful deployment."""
    declared = template.get("outputs") or {}
    shown: dict[str, Any] = {}
    for name, entry in declared.items():
        output = shown[camel(name)] = {"type": template_parameters.shown_type(entry)}
        if outputs.get(name) is not None and not output["type"].startswith("Secure"):
            output["value"] = outputs[name]
    properties = run.record["properties"]
    if declared:
        properties["outputs"] = shown
    properties["outputResources"] = [{"id": str(planned.id)} for planned in run.module.resources()]


def as_read(body: Mapping[str, Any]) -> dict[str, Any]:
    """A deployment as GET shows it: without the nulls that PUT echoes."""
    shown = copy.deepcopy(dict(body))
    for parameter in shown["properties"]["parameters"].values():
        if "value" in parameter and parameter["value"] is None:
            del parameter["value"]
    return shown


def camel(name: str) -> str:
    """An output's name as ARM mangles it: ACA_APP_ENDPOINT → acA_APP_ENDPOINT."""
    letters = list(name)
    for index, letter in enumerate(letters):
        if not letter.isupper():
            break
        follower = letters[index + 1] if index + 1 < len(letters) else ""
        if index and follower and not follower.isupper():
            break
        letters[index] = letter.lower()
    return "".join(letters)


def _hash(template: Mapping[str, Any]) -> str:
    known = (template.get("metadata") or {}).get("_generator", {}).get("templateHash")
    text = json.dumps(template, sort_keys=True).upper().encode()
    return known or str(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))


def _ids(module: Module) -> list[ResourceId]:
    found: list[ResourceId] = []
    for step in module.steps:
        found.append(step.id)
        if isinstance(step, Module):
            found += _ids(step)
    return found


def _providers(module: Module) -> list[dict[str, Any]]:
    found: dict[str, dict[str, list[Any]]] = {}
    for step in module.steps:
        types = found.setdefault(step.id.namespace or "", {})
        places = types.setdefault("/".join(step.id.types), [])
        place = step.body.get("location") if isinstance(step, PlannedResource) else None
        if place not in places:
            places.append(place)
    return [
        {
            "namespace": namespace,
            "resourceTypes": [{"resourceType": type, "locations": places} for type, places in types.items()],
        }
        for namespace, types in found.items()
    ]


def _dependencies(module: Module) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for step in module.steps:
        needed = module.needed_by(step)
        if needed:
            found.append({"dependsOn": [_named(other.id) for other in needed], **_named(step.id)})
    return found


def _named(id: ResourceId) -> dict[str, Any]:
    return {"id": str(id), "resourceType": id.type, "resourceName": "/".join(id.names)}
