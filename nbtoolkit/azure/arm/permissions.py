"""The actions that the roles of the signed-in account allow."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.azure.sdk import import_from

_API_VERSION = "2022-04-01"


@dataclass(frozen=True)
class Grant:
    """The actions of one role at a scope: ``actions`` less ``not_actions``; ``*`` stands for any text."""

    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()

    def allows(self, action: str) -> bool:
        """Return whether this role allows an action; case does not matter."""
        return _matches(action, self.actions) and not _matches(action, self.not_actions)


@dataclass(frozen=True)
class Grants:
    """All roles at a scope; one role may allow an action that another one excludes."""

    grants: tuple[Grant, ...]

    def allow(self, action: str) -> bool:
        """Return whether any role allows an action."""
        return any(grant.allows(action) for grant in self.grants)

    def missing(self, actions: Iterable[str]) -> list[str]:
        """Return those of ``actions`` that no role allows, in their order."""
        return [action for action in actions if not self.allow(action)]


def group_permissions(cloud: Cloud, subscription: str, resource_group: str) -> Grants:
    """Return the account's roles in a resource group. One request; raises :class:`AzureFailed`."""
    with translate_errors(f"read your permissions in the resource group {resource_group}"):
        found: list[Any] = list(
            cloud.permissions(subscription).permissions.list_for_resource_group(resource_group)
        )
    return Grants(tuple(Grant(tuple(one.actions or ()), tuple(one.not_actions or ())) for one in found))


def subscription_permissions(cloud: Cloud, subscription: str) -> Grants:
    """Return the account's roles in the whole subscription. One request; raises :class:`AzureFailed`.

    The SDK has this operation for groups and resources only; ARM supports it at every scope.
    """
    path = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/permissions"
    request = import_from("azure.core.rest", "HttpRequest")("GET", path, params={"api-version": _API_VERSION})
    with translate_errors(f"read your permissions in the subscription {subscription}"):
        response = cloud.resources(subscription).send_request(request)
        response.raise_for_status()
    found: list[dict[str, Any]] = response.json().get("value") or []
    return Grants(
        tuple(Grant(tuple(one.get("actions") or ()), tuple(one.get("notActions") or ())) for one in found)
    )


def _matches(action: str, patterns: tuple[str, ...]) -> bool:
    return any(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), action, re.IGNORECASE | re.DOTALL)
        for pattern in patterns
    )
