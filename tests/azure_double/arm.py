"""management.azure.com: routing by resource type, permissions, and the state of all resources."""

from __future__ import annotations

import copy
import re
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .clock import Clock
from .http import Refused, Request, Response
from .operations import Operations
from .resource_ids import ResourceId
from .resource_kind import Call, ResourceKind

if TYPE_CHECKING:
    from .double import AzureDouble

HOST = "management.azure.com"
Answer = Callable[[Call], Response]


class Arm:
    """The router and the state of all resources."""

    def __init__(self, double: AzureDouble, clock: Clock) -> None:
        self.double = double
        self.operations = Operations(clock)
        self.lock = threading.RLock()
        self.resources: dict[str, dict[str, Any]] = {}
        """Bodies by id in lower case."""
        self.guards: list[Callable[[Call], None]] = []
        """Called before every call; each may refuse it (permissions, groups, providers)."""
        self._kinds: dict[str, ResourceKind] = {}
        self._routes: list[tuple[str, re.Pattern[str], Answer]] = []

    def register(self, type: str, kind: ResourceKind) -> None:
        """Let `kind` answer for a type and its collection and actions."""
        self._kinds[type.lower()] = kind

    def kind(self, type: str) -> ResourceKind | None:
        return self._kinds.get(type.lower())

    def route(self, method: str, pattern: str, answer: Answer) -> None:
        """Answer a path that is not a resource; `pattern` matches the whole path, in any case."""
        self._routes.append((method, re.compile(pattern, re.IGNORECASE), answer))

    def put(self, id: ResourceId | str, body: dict[str, Any], version: str = "2026-01-01") -> Call:
        """PUT as a deployment does; the caller waits for the call's `operation` if there is one."""
        place = ResourceId.parse(id) if isinstance(id, str) else id
        if place is None or not place.names:
            raise Refused(400, "InvalidResourceId", f"'{id}' is no resource id.")
        call = Call(self, "PUT", place, copy.deepcopy(body), {"api-version": version})
        call.response = self._dispatch(call)
        return call

    def call_function(self, method: str, path: str, version: str = "2026-01-01") -> Response:
        """GET or POST as a template's functions do, with the client's permissions."""
        place = ResourceId.parse(path)
        if place is None:
            raise Refused(400, "InvalidTemplate", f"'{path}' is no resource id.")
        return self._dispatch(Call(self, method, place, {}, {"api-version": version}))

    def check(self, call: Call) -> None:
        """Refuse a PUT that is invalid before it is executed."""
        self._guard(call)
        kind = self._require_kind(call)
        self._check_location(call)
        kind.preflight(call)

    def get(self, id: ResourceId | str) -> dict[str, Any] | None:
        """The body of a resource, or None; for callers inside the double."""
        return self.resources.get(str(id).lower())

    def save(self, id: ResourceId, body: dict[str, Any]) -> dict[str, Any]:
        """Keep a resource's body."""
        with self.lock:
            self.resources[id.key] = body
        return body

    def forget(self, id: ResourceId) -> bool:
        """Delete a resource with its children; return whether it existed."""
        with self.lock:
            doomed = [key for key in self.resources if key == id.key or key.startswith(id.key + "/")]
            for key in doomed:
                del self.resources[key]
        return id.key in doomed

    def require(self, id: ResourceId) -> dict[str, Any]:
        """Return the body of a resource, or raise ARM's 404."""
        body = self.get(id)
        if body is None:
            short = "/".join(
                [id.namespace or "", *(f"{t}/{n}" for t, n in zip(id.types, id.names, strict=False))]
            )
            raise Refused(
                404,
                "ResourceNotFound",
                f"The Resource '{short}' under resource group '{id.group}' was not found. "
                "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
            )
        return body

    def list_collection(self, collection: ResourceId) -> list[dict[str, Any]]:
        """The bodies in a collection; one of a whole subscription finds all groups'."""
        start = str(collection.parent if len(collection.types) > 1 else collection.group_id).lower() + "/"
        wanted = collection.type.lower()
        with self.lock:
            found = [body for key, body in self.resources.items() if key.startswith(start)]
        return [body for body in found if str(body.get("type", "")).lower() == wanted]

    def handle(self, request: Request) -> Response:
        """Answer one HTTP request."""
        self.double.tokens.require(request)
        response = self._answer(request)
        identity = str(uuid.uuid4())
        for name in ("x-ms-request-id", "x-ms-correlation-request-id"):
            response.headers.setdefault(name, identity)
        return response

    def _answer(self, request: Request) -> Response:
        poll = self.operations.find(request) if request.method == "GET" else None
        if poll:
            return poll(request)
        if "api-version" not in request.query:
            raise Refused(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        path = request.decoded_path.rstrip("/")
        id = ResourceId.parse(path) or ResourceId.scope(path)
        body = request.json() if request.method in ("PUT", "PATCH", "POST") else {}
        call = Call(
            self,
            request.method,
            id,
            body if isinstance(body, dict) else {"value": body},
            request.query,
            request,
        )
        for method, pattern, answer in self._routes:
            if method == request.method and pattern.fullmatch(path):
                self._guard(call)
                return answer(call)
        return self._dispatch(call)

    def _guard(self, call: Call) -> None:
        for guard in self.guards:
            guard(call)

    def _dispatch(self, call: Call) -> Response:
        self._guard(call)
        id = call.id
        if call.method == "POST" and id.is_collection and len(id.types) > 1:
            kind = self.kind(id.owner.type)
            if kind:
                return kind.action(
                    Call(self, "POST", id.owner, call.body, call.query, call.request), id.types[-1]
                )
        kind = self._require_kind(call)
        if id.is_collection:
            if call.method != "GET":
                raise Refused(
                    405, "HttpMethodNotSupported", f"The method {call.method} is not supported here."
                )
            return kind.list(call)
        if (
            call.method == "PUT"
            and kind.needs_location
            and len(id.types) == 1
            and not call.body.get("location")
        ):
            raise Refused(400, "LocationRequired", "The location property is required for this definition.")
        if call.method == "PUT":
            self._check_location(call)
        answer = getattr(kind, call.method.lower(), None)
        if answer is None or call.method == "POST":
            raise Refused(405, "HttpMethodNotSupported", f"The method {call.method} is not supported here.")
        return answer(call)

    def _check_location(self, call: Call) -> None:
        """Refuse to PUT a resource into another region than it is in."""
        old = self.get(call.id) or {}
        there = str(old.get("location", "")).replace(" ", "").lower()
        if there and call.location and there != call.location:
            raise Refused(
                409,
                "InvalidResourceLocation",
                f"The resource '{call.id.name}' already exists in location '{there}' in resource group "
                f"'{call.id.group}'. A resource with the same name cannot be created in location "
                f"'{call.location}'. Please select a new resource name.",
            )

    def _require_kind(self, call: Call) -> ResourceKind:
        kind = self.kind(call.id.type)
        if kind is None:
            raise Refused(
                404,
                "InvalidResourceType",
                f"The resource type '{'/'.join(call.id.types) or call.id}' could not be found in the "
                f"namespace '{call.id.namespace}' for api version '{call.version}'.",
            )
        return kind
