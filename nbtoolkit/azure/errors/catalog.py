"""Known Azure errors of permissions, sign-in, subscriptions and names, and the lookup by code and message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_ENVELOPES = re.compile(
    "DeploymentFailed|ResourceDeploymentFailure|InvalidTemplateDeployment|ValidationForResourceFailed|"
    "ValidationForMultipleResourcesFailed|MultipleErrorsOccurred|DeploymentOperationFailed|"
    "Conflict|BadRequest|NotFound",
    re.IGNORECASE,
)
"""Codes that only report that an error inside of them is the reason."""

_QUOTA_EXCEEDED = re.compile(
    "(MaxRegional)?QuotaExceeded|MaxNumberOf(Regional|Global)EnvironmentsInSubExceeded", re.IGNORECASE
)


class CatalogEntry(NamedTuple):
    """An error of Azure, matched by its code and message, with its explanation.

    Without ``codes``, which are separated by blanks, every code matches, without ``pattern`` every message.
    The named groups of ``pattern`` may be used as ``{name}`` in ``message`` and ``next_step``; a group
    without a match becomes "it".
    """

    message: str
    next_step: str
    codes: str = ""
    pattern: str = ""


_ASK_FOR_ROLE = (
    "ask an owner of the subscription for a role that holds this action, such as Contributor on {scope}"
)

ACCESS_ERRORS = (
    # Permissions and policies
    CatalogEntry(
        codes="LinkedAuthorizationFailed",
        pattern=r"action\(s\) '(?P<action>[^']+)' on the linked scope\(s\) '(?P<scope>[^']+)'",
        message="You may not {action} on a resource that this one uses.",
        next_step=_ASK_FOR_ROLE,
    ),
    CatalogEntry(
        pattern=r"does not have (?:authorization|permission) to perform action '(?P<action>[^']+)' "
        r"(?:over|at) scope '(?P<scope>[^']+)'",
        message="You lack the permission {action}.",
        next_step=f"{_ASK_FOR_ROLE}; a new role takes some minutes to become effective",
    ),
    CatalogEntry(
        codes="AuthorizationFailed Forbidden",
        message="You lack a permission for this.",
        next_step="ask an owner of the subscription for Contributor on the resource group",
    ),
    CatalogEntry(
        codes="RequestDisallowedByPolicy",
        message="A policy of your organisation forbids this.",
        next_step="choose settings that the policy allows, or ask the administrator of the subscription for "
        "an exemption",
    ),
    CatalogEntry(
        codes="RequestDisallowedByAzure",
        message="Azure does not offer this region to your subscription at present.",
        next_step="choose another region",
    ),
    CatalogEntry(
        codes="ScopeLocked",
        message="A lock on the resource or its group forbids this.",
        next_step="ask its owner to remove the lock, or choose another resource group",
    ),
    CatalogEntry(
        codes="DenyAssignmentAuthorizationFailed",
        message="A deny assignment forbids this.",
        next_step="choose another resource group",
    ),
    CatalogEntry(
        codes="InvalidAuthenticationTokenTenant",
        message="You are signed in to another tenant than the subscription's.",
        next_step="sign in to the tenant of the subscription: az login --tenant TENANT",
    ),
    CatalogEntry(
        codes="ExpiredAuthenticationToken InvalidAuthenticationToken AuthenticationFailed",
        message="Azure did not accept the sign-in.",
        next_step="sign in again, for example with az login",
    ),
    # The subscription
    CatalogEntry(
        codes="MissingSubscriptionRegistration SubscriptionNotRegistered",
        pattern=r"namespace '(?P<name>[^']+)'",
        message="The subscription has not registered the resource provider {name}.",
        next_step="register it: az provider register --namespace {name} --wait, "
        "or set register_providers=True",
    ),
    CatalogEntry(
        codes="NoRegisteredProviderFound",
        message="No registered provider offers this resource in this region.",
        next_step="register the provider (Microsoft.App), or choose another region",
    ),
    CatalogEntry(
        codes="SubscriptionNotFound InvalidSubscriptionId",
        message="The subscription does not exist, or your account has no access to it.",
        next_step="choose one from the list, and sign in to its tenant",
    ),
    CatalogEntry(
        codes="ReadOnlyDisabledSubscription DisabledSubscription SubscriptionDisabled",
        message="The subscription is disabled, often because its credit is used up.",
        next_step="enable it in the portal, or choose another subscription",
    ),
    # Names
    CatalogEntry(
        codes="StorageAccountAlreadyTaken",
        pattern=r"^(?:.*?named (?P<name>[a-z0-9]+))?",
        message="The storage account name {name} is taken; these names are unique in all of Azure.",
        next_step="choose another storage_account",
    ),
    CatalogEntry(
        codes="StorageAccountInAnotherResourceGroup StorageAccountAlreadyExists",
        message="A storage account of this name is in another resource group of the subscription.",
        next_step="choose another storage_account, or that resource group",
    ),
    CatalogEntry(
        codes="AccountNameInvalid ResourceNameInvalid InvalidResourceName ContainerAppInvalidName "
        "InvalidContainerAppName",
        message="Azure does not accept this name.",
        next_step="choose another name in the settings and run the step again",
    ),
)
"""The first entry that matches counts, so the more specific ones come first."""


def find(entries: Iterable[CatalogEntry], code: str, azure_message: str) -> tuple[str, str] | None:
    """Return message and next step of the first entry that matches, None if the error is not known."""
    for entry in entries:
        if not entry.codes or code.lower() in entry.codes.lower().split():
            found = re.search(entry.pattern, azure_message, re.IGNORECASE | re.DOTALL)
            if found is not None:
                groups = {name: text or "it" for name, text in found.groupdict().items()}
                return entry.message.format(**groups), entry.next_step.format(**groups)
    return None


def is_envelope(code: str) -> bool:
    """Return whether a code only reports that an error inside of it is the reason."""
    return bool(_ENVELOPES.fullmatch(code))


def is_quota_exceeded(code: str) -> bool:
    """Return whether a code means that a quota is used up."""
    return bool(_QUOTA_EXCEEDED.fullmatch(code))
