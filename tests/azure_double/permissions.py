"""Permissions of the signed-in client: listed for preflight and enforced on every call."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import Any

from .arm import Arm
from .http import Refused, Response
from .resource_kind import Call
from .tokens import CLIENT_ID, OBJECT_ID

_ASKED = "/providers/Microsoft.Authorization/permissions"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_LINKS = {
    "microsoft.app/containerapps": (
        "managedEnvironments",
        "join/action",
        "environmentId",
        "managedEnvironmentId",
    )
}
"""By type: the action that a write also needs on a linked resource."""
_GROUP = re.compile(r"/subscriptions/[^/]+/resourcegroups(/[^/]+)?", re.IGNORECASE)


@dataclass
class Role:
    """A role assignment: allowed and excluded actions below a scope; `*` matches any text."""

    actions: list[str] = field(default_factory=lambda: ["*"])
    not_actions: list[str] = field(default_factory=list)
    data_actions: list[str] = field(default_factory=list)
    not_data_actions: list[str] = field(default_factory=list)
    scope: str = ""
    """A prefix of ids; the default is everything."""

    def reaches(self, scope: str) -> bool:
        return (scope.lower() + "/").startswith(self.scope.lower().rstrip("/") + "/") or not self.scope

    def allows(self, action: str) -> bool:
        return _matches(action, self.actions) and not _matches(action, self.not_actions)


class Permissions:
    """All roles of the client: one owner of everything until a test changes `roles`."""

    def __init__(self, arm: Arm) -> None:
        self.roles: list[Role] = [Role()]
        arm.guards.append(self._guard)
        arm.route("GET", f"/.+{_ASKED}", self._list)

    def forbid(self, *actions: str) -> None:
        """Remove actions from every role."""
        for role in self.roles:
            role.not_actions += actions

    def allowed(self, action: str, scope: str) -> bool:
        """Return whether the client has this permission at this scope."""
        return any(role.reaches(scope) and role.allows(action) for role in self.roles)

    def require(self, action: str, scope: str) -> None:
        """Raise ARM's 403 without permission."""
        if not self.allowed(action, scope):
            raise Refused(403, "AuthorizationFailed", refusal(action, scope))

    def _guard(self, call: Call) -> None:
        if call.id.subscription and not _lists_permissions(call):
            acts = call.method == "POST" and call.id.is_collection and len(call.id.types) > 1
            self.require(action_of(call), str(call.id.owner if acts else call.id))
            self._require_linked(call)

    def _require_linked(self, call: Call) -> None:
        """A write that uses another resource needs an action there, too."""
        link = _LINKS.get(call.id.type.lower())
        if link is None or call.method not in ("PUT", "PATCH"):
            return
        type, verb, *names = link
        properties = call.body.get("properties") or {}
        linked = next((properties[name] for name in names if properties.get(name)), None)
        action = f"{call.id.namespace}/{type}/{verb}"
        if linked and not self.allowed(action, linked):
            raise Refused(
                403,
                "LinkedAuthorizationFailed",
                f"The client '{CLIENT_ID}' with object id '{OBJECT_ID}' has permission to perform action "
                f"'{action_of(call)}' on scope '{call.id}'; however, it does not have permission to perform "
                f"action(s) '{action}' on the linked scope(s) '{linked}' (respectively) or the linked "
                "scope(s) are invalid.",
            )

    def _list(self, call: Call) -> Response:
        path = call.request.decoded_path if call.request else ""
        scope = path[: path.lower().rindex(_ASKED.lower())]
        value: list[dict[str, Any]] = [
            {
                "actions": role.actions,
                "notActions": role.not_actions,
                "dataActions": role.data_actions,
                "notDataActions": role.not_data_actions,
            }
            for role in self.roles
            if role.reaches(scope)
        ]
        return Response.of({"value": value})


def action_of(call: Call) -> str:
    """The action that a call needs, such as Microsoft.App/containerApps/write."""
    id, path = call.id, call.request.decoded_path if call.request else str(call.id)
    if not id.namespace:
        if _GROUP.fullmatch(path.rstrip("/")):
            return f"Microsoft.Resources/subscriptions/resourceGroups/{_VERBS.get(call.method, 'read')}"
        return "Microsoft.Resources/subscriptions/read"
    parts = [id.namespace, *id.types]
    if call.method == "POST":
        return "/".join([*parts, "action"])
    return "/".join([*parts, _VERBS[call.method]])


def refusal(action: str, scope: str) -> str:
    """Return ARM's message of a refusal."""
    return (
        f"The client '{CLIENT_ID}' with object id '{OBJECT_ID}' does not have authorization to perform "
        f"action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
        "please refresh your credentials."
    )


def _lists_permissions(call: Call) -> bool:
    return call.request is not None and call.request.decoded_path.lower().endswith(_ASKED.lower())


def _matches(action: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
