"""The base class of the double's resource types, and a call of ARM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .http import Refused, Request, Response
from .operations import Operation
from .resource_ids import ResourceId

if TYPE_CHECKING:
    from .arm import Arm
    from .double import AzureDouble


@dataclass
class Call:
    """A call of ARM by HTTP or by a deployment."""

    arm: Arm
    method: str
    id: ResourceId
    body: dict[str, Any] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    request: Request | None = None
    """None for the call of a deployment."""
    operation: Operation | None = None
    """The operation that a PUT started, for which a deployment waits; set by the resource kind."""
    response: Response | None = None
    """The response to a deployment's PUT."""

    @property
    def version(self) -> str:
        return self.query.get("api-version", "")

    @property
    def double(self) -> AzureDouble:
        return self.arm.double

    @property
    def location(self) -> str:
        """The region in ARM's short form: "West US 3" → westus3."""
        return str(self.body.get("location", "")).replace(" ", "").lower()


class ResourceKind:
    """A resource type; subclasses override methods. The state is the ARM body in `arm.resources`."""

    type = ""
    """The full type, such as Microsoft.App/containerApps; its case is the documented one."""
    needs_location = True

    def put(self, call: Call) -> Response:
        raise Refused(405, "MethodNotAllowed", f"{self.type} cannot be PUT here.")

    def patch(self, call: Call) -> Response:
        raise Refused(405, "MethodNotAllowed", f"{self.type} cannot be PATCHed here.")

    def delete(self, call: Call) -> Response:
        return Response(200 if call.arm.forget(call.id) else 204)

    def get(self, call: Call) -> Response:
        return Response.of(self.shown(call.arm.require(call.id)))

    def head(self, call: Call) -> Response:
        call.arm.require(call.id)
        return Response(204)

    def list(self, call: Call) -> Response:
        return Response.of({"value": [self.shown(body) for body in call.arm.list_collection(call.id)]})

    def action(self, call: Call, name: str) -> Response:
        """POST on a resource: method `post_<name>` in lower case."""
        method = getattr(self, f"post_{name.lower()}", None)
        if method is None:
            raise Refused(
                404, "InvalidResourceType", f"The resource type '{self.type}/{name}' could not be found."
            )
        call.arm.require(call.id)
        return method(call)

    def preflight(self, call: Call) -> None:
        """Refuse a PUT that a deployment's validation refuses; texts in brackets are expressions."""

    def shown(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as a GET shows it; drop write-only properties here."""
        return body
