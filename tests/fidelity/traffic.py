"""Record nbtoolkit's operations in a test, and validate bodies with Bicep's types."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tests.azure_double import AzureDouble, Call, Request, ResourceId, Response
from tests.support.bicep_types import BicepTypes

from .allowed_differences import reason_allowed
from .documented_operations import DOCUMENTED
from .exchanges import Exchange, as_json
from .operation_names import APPS, ARM, operation_name

USER_AGENT = "nbtoolkit/"
"""Part of the product's user agent; requests of tests have another one."""
_WHAT_IF = "Microsoft.Resources/deployments", "2026-06-01", "whatIf"


class Traffic:
    """Record the operations of nbtoolkit on a double and, with types, the problems of bodies."""

    def __init__(self, types: BicepTypes | None = None) -> None:
        self.operations: Counter[str] = Counter()
        """Number of calls of each operation; requests to an app's host are not counted."""
        self.judged: Counter[str] = Counter()
        """Number of validated bodies of each type."""
        self.without_type: set[str] = set()
        """Operations with bodies without a Bicep type."""
        self.problems: Counter[str] = Counter()
        """Type problems that are not allowed."""
        self.allowed: Counter[str] = Counter()
        """Reasons of the allowed type problems."""
        self._types = types
        self._lock = threading.Lock()

    def watch(self, double: AzureDouble) -> None:
        """Record all requests, and the resources of deployments."""
        double.watchers.append(self._exchange)
        if self._types:
            double.arm.guards.append(self._deployed)

    def report(self, recorded: Iterable[str]) -> str:
        """Return the called operations, their sources, and the number of validated bodies as text."""
        known = {name.lower() for name in recorded}
        seen = sorted(self.operations)
        from_recordings = [name for name in seen if name.lower() in known]
        elsewhere = [name for name in seen if name.lower() not in known]
        lines = [
            f"operations called: {len(seen)}; recorded: {len(from_recordings)}; documented: {len(elsewhere)}",
            *(f"  {name}: {DOCUMENTED.get(name, 'NOWHERE')}" for name in elsewhere),
            f"bodies judged by Bicep's types: {self.judged.total()} of {len(self.judged)} types and actions",
            *(f"  no type for {name}" for name in sorted(self.without_type)),
            *(f"  {count} beyond the types, {why}" for why, count in sorted(self.allowed.items())),
        ]
        return "\n".join(lines)

    def _exchange(self, request: Request, response: Response) -> None:
        agent = request.headers.get("user-agent", "")
        login = request.host == "login.microsoftonline.com"
        if (USER_AGENT not in agent and not login) or request.host.endswith(APPS):
            return
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        url = f"https://{request.host}{request.path}?{query}"
        seen = Exchange("now", "", request.method, url, response.status, request.headers)
        named = operation_name(seen)
        with self._lock:
            self.operations[named] += 1
        if request.host == ARM and self._types:
            self._keep(self._judged(request, response, named))

    def _deployed(self, call: Call) -> None:
        """Validate a resource of a deployment."""
        if call.request is None and call.method == "PUT":
            body = {name: value for name, value in call.body.items() if name not in ("apiVersion", "id")}
            self._keep(
                self._resource(call.id.type, call.version, body, f"deploy {call.id.type}", response=False)
            )

    def _keep(self, problems: Iterable[str]) -> None:
        for problem in [*problems]:
            why = reason_allowed(problem)
            with self._lock:
                (self.allowed if why else self.problems)[why or problem] += 1

    def _judged(self, request: Request, response: Response, named: str) -> Iterator[str]:
        version = request.query.get("api-version", "")
        answered = as_json(response.body) if isinstance(response.body, bytes) and response.body else None
        answered = answered if 200 <= response.status < 300 else None
        id = ResourceId.parse(request.decoded_path)
        if id is None or id.namespace is None:
            if isinstance(answered, dict) and "changes" in (answered.get("properties") or {}):
                yield from self._action(*_WHAT_IF, answered, named, response=True)
            return
        if request.method == "POST":
            owner, action = ("/".join([id.namespace, *id.types[:-1]]), id.types[-1]) if id.types else ("", "")
            sent = request.json() or None
            if sent is not None:
                yield from self._action(owner, version, action, sent, named, response=False)
            if answered is not None:
                yield from self._action(owner, version, action, answered, named, response=True)
            return
        if request.method in ("PUT", "PATCH"):
            partial = request.method == "PATCH"
            yield from self._resource(
                id.type, version, request.json(), named, response=False, partial=partial
            )
        for body in _resources(answered, listed=id.is_collection):
            yield from self._resource(str(body.get("type") or id.type), version, body, named, response=True)

    def _resource(
        self, type: str, version: str, body: Any, named: str, *, response: bool, partial: bool = False
    ) -> Iterator[str]:
        assert self._types is not None
        try:
            found = self._types.problems(type, version, body, response=response, partial=partial)
        except KeyError:
            with self._lock:
                self.without_type.add(f"{named} ({version})")
            return
        with self._lock:
            self.judged[type.lower()] += 1
        yield from (f"{named} {version} {'answered' if response else 'sent'}: {problem}" for problem in found)

    def _action(
        self, owner: str, version: str, action: str, body: Any, named: str, *, response: bool
    ) -> Iterator[str]:
        assert self._types is not None
        try:
            found = self._types.action_problems(owner, version, action, body, response=response)
        except KeyError:
            with self._lock:
                self.without_type.add(f"{named} ({version})")
            return
        with self._lock:
            self.judged[f"{owner}/{action}".lower()] += 1
        yield from (f"{named} {version} {'answered' if response else 'sent'}: {problem}" for problem in found)


def _resources(answered: Any, *, listed: bool) -> list[dict[str, Any]]:
    """Return the resources in a response; the status of an operation has none."""
    if not isinstance(answered, dict):
        return []
    if listed:
        return [entry for entry in answered.get("value") or [] if isinstance(entry, dict)]
    return [answered] if "properties" in answered or "type" in answered else []
