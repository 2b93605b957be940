"""Resource groups, and the list of their resources."""

from __future__ import annotations

import re
from typing import Any

from . import regions
from .arm import Arm
from .http import Refused, Response
from .resource_ids import ResourceId
from .resource_kind import Call

NAME = re.compile(r"[-\w._()]{0,89}[-\w_()]")
_FILTER = re.compile(
    r"resourceType eq '(?P<type>[^']+)'|tagName eq '(?P<tag>[^']+)' and tagValue eq '(?P<value>[^']*)'", re.I
)
GROUP = "/subscriptions/[^/]+/resourcegroups"
SECONDS = 5


class Groups:
    """Resource groups; refuses a resource in a missing group before all other checks."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        arm.guards.append(self._guard)
        arm.route("GET", GROUP, self._list)
        arm.route("HEAD", f"{GROUP}/[^/]+", self._head)
        arm.route("GET", f"{GROUP}/[^/]+", lambda call: Response.of(self._require(call)))
        arm.route("PUT", f"{GROUP}/[^/]+", self._put)
        arm.route("PATCH", f"{GROUP}/[^/]+", self._patch)
        arm.route("DELETE", f"{GROUP}/[^/]+", self._delete)
        arm.route("GET", f"{GROUP}/[^/]+/resources", self._resources)
        arm.route("GET", "/subscriptions/[^/]+/resources", self._resources)

    def add(self, name: str, location: str = "westus3") -> dict[str, Any]:
        """Create a group without a request."""
        id = ResourceId(self._arm.double.subscription, name)
        return self._arm.save(id, _body(id, {"location": location}))

    def _guard(self, call: Call) -> None:
        if call.id.group is not None and call.id.namespace and self._arm.get(call.id.group_id) is None:
            raise _missing(call.id)

    def _require(self, call: Call) -> dict[str, Any]:
        body = self._arm.get(call.id.group_id)
        if body is None:
            raise _missing(call.id)
        return body

    def _head(self, call: Call) -> Response:
        return Response(204 if self._arm.get(call.id.group_id) else 404)

    def _list(self, call: Call) -> Response:
        start = f"/subscriptions/{call.id.subscription}/resourcegroups/".lower()
        groups = [
            body for key, body in self._arm.resources.items() if key.startswith(start) and key.count("/") == 4
        ]
        return Response.of({"value": _filtered(groups, call)})

    def _put(self, call: Call) -> Response:
        id = call.id.group_id
        if not NAME.fullmatch(id.group or ""):
            raise Refused(
                400,
                "InvalidResourceGroup",
                f"The provided resource group name '{id.group}' has these invalid characters or is too long.",
            )
        if not call.body.get("location"):
            raise Refused(400, "LocationRequired", "The location property is required for this definition.")
        location = regions.short(call.body["location"])
        if location not in regions.REGIONS:
            raise Refused(
                400,
                "LocationNotAvailableForResourceGroup",
                f"The provided location '{location}' is not available for resource group.",
            )
        old = self._arm.get(id)
        if old and old["location"] != location:
            raise Refused(
                409,
                "InvalidResourceGroupLocation",
                f"Invalid resource group location '{location}'. The Resource "
                f"group already exists in location '{old['location']}'.",
            )
        body = self._arm.save(id, _body(id, {**call.body, "location": location}))
        return Response.of(body, 200 if old else 201)

    def _patch(self, call: Call) -> Response:
        body = self._require(call)
        if "tags" in call.body:
            body["tags"] = call.body["tags"]
        return Response.of(body)

    def _delete(self, call: Call) -> Response:
        id = call.id.group_id
        self._require(call)["properties"]["provisioningState"] = "Deleting"

        def work() -> None:
            for body in self._inside(id):
                doomed = ResourceId.parse(body["id"])
                kind = self._arm.kind(doomed.type) if doomed else None
                if doomed and kind:
                    kind.delete(Call(self._arm, "DELETE", doomed, query=call.query))
            self._arm.forget(id)

        operation = self._arm.operations.begin(work, seconds=SECONDS)
        path = f"/subscriptions/{id.subscription}/operationresults"
        url = self._arm.operations.result_url(operation, path, call.version)
        return Response(202, {"location": url, "retry-after": self._arm.double.clock.retry_after(15)})

    def _inside(self, group: ResourceId) -> list[dict[str, Any]]:
        """Top-level resources, dependencies last."""
        start = f"{group.key}/providers/"
        found = [body for key, body in self._arm.resources.items() if key.startswith(start)]
        top = [body for body in found if str(body.get("type", "")).count("/") == 1]
        return sorted(top, key=lambda body: not str(body["type"]).lower().endswith("containerapps"))

    def _resources(self, call: Call) -> Response:
        if call.id.group is not None:
            self._require(call)
        start = f"{call.id.group_id.key}/"
        found = [
            {
                key: body[key]
                for key in ("id", "name", "type", "kind", "sku", "location", "tags", "identity")
                if key in body
            }
            for key, body in self._arm.resources.items()
            if key.startswith(start)
            and "/providers/" in key
            and str(body.get("type", "")).count("/") == 1
            and body.get("type") != "Microsoft.Resources/deployments"
        ]
        return Response.of({"value": _filtered(found, call)})


def _body(id: ResourceId, asked: dict[str, Any]) -> dict[str, Any]:
    kept = {key: asked[key] for key in ("location", "tags", "managedBy") if asked.get(key) is not None}
    return {
        "id": str(id),
        "name": id.group,
        "type": "Microsoft.Resources/resourceGroups",
        **kept,
        "properties": {"provisioningState": "Succeeded"},
    }


def _filtered(bodies: list[dict[str, Any]], call: Call) -> list[dict[str, Any]]:
    found = _FILTER.search(call.query.get("$filter", ""))
    if not found:
        return bodies
    if found["type"]:
        return [body for body in bodies if body["type"].lower() == found["type"].lower()]
    return [body for body in bodies if (body.get("tags") or {}).get(found["tag"]) == found["value"]]


def _missing(id: ResourceId) -> Refused:
    return Refused(404, "ResourceGroupNotFound", f"Resource group '{id.group}' could not be found.")
