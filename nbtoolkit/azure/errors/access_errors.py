"""What Azure refuses because of who asks, where, or under which name: in plain words, with what to do."""

from __future__ import annotations

from typing import NamedTuple


class CatalogEntry(NamedTuple):
    """Codes (none: any) and a pattern of the message, what they mean and what to do.

    The pattern's named groups may be used in both sentences.
    """

    codes: str
    message: str
    says: str
    step: str


ANY = ""
_OTHER_NAME = "choose another name in the settings and run the step again"
_ROLE = "ask an owner of the subscription for a role that holds this action, such as Contributor on {scope}"

ACCOUNT_CAUSES = (
    # Permissions and policies
    CatalogEntry(
        "LinkedAuthorizationFailed",
        r"action\(s\) '(?P<action>[^']+)' on the linked scope\(s\) '(?P<scope>[^']+)'",
        "You may not {action} on a resource that this one uses.",
        _ROLE,
    ),
    CatalogEntry(
        "",
        r"does not have (?:authorization|permission) to perform action '(?P<action>[^']+)' (?:over|at) scope "
        r"'(?P<scope>[^']+)'",
        "You lack the permission {action}.",
        f"{_ROLE}; a role that was given just now takes some minutes",
    ),
    CatalogEntry(
        "AuthorizationFailed Forbidden",
        ANY,
        "You lack a permission for this.",
        "ask an owner of the subscription for Contributor on the resource group",
    ),
    CatalogEntry(
        "RequestDisallowedByPolicy",
        ANY,
        "A policy of your organisation forbids this.",
        "choose settings that the policy allows, or ask who manages the subscription for an exemption",
    ),
    CatalogEntry(
        "RequestDisallowedByAzure",
        ANY,
        "Azure does not offer this region to your subscription now.",
        "choose another region",
    ),
    CatalogEntry(
        "ScopeLocked",
        ANY,
        "A lock on the resource or its group forbids this.",
        "ask its owner to remove the lock, or choose another resource group",
    ),
    CatalogEntry(
        "DenyAssignmentAuthorizationFailed",
        ANY,
        "A deny assignment forbids this.",
        "choose another resource group",
    ),
    CatalogEntry(
        "InvalidAuthenticationTokenTenant",
        ANY,
        "You are signed in to another tenant than the subscription's.",
        "sign in to the tenant of the subscription: az login --tenant TENANT",
    ),
    CatalogEntry(
        "ExpiredAuthenticationToken InvalidAuthenticationToken AuthenticationFailed",
        ANY,
        "Azure did not accept the sign-in.",
        "sign in again, for example with az login",
    ),
    # The subscription
    CatalogEntry(
        "MissingSubscriptionRegistration SubscriptionNotRegistered",
        r"namespace '(?P<name>[^']+)'",
        "The subscription has not registered the resource provider {name}.",
        "register it: az provider register --namespace {name} --wait, or set register_providers=True",
    ),
    CatalogEntry(
        "NoRegisteredProviderFound",
        ANY,
        "No registered provider offers this resource in this region.",
        "register the provider (Microsoft.App), or choose another region",
    ),
    CatalogEntry(
        "SubscriptionNotFound InvalidSubscriptionId",
        ANY,
        "There is no such subscription, or you cannot see it.",
        "choose one from the list, and sign in to its tenant",
    ),
    CatalogEntry(
        "ReadOnlyDisabledSubscription DisabledSubscription SubscriptionDisabled",
        ANY,
        "The subscription is disabled, often because its credit is used up.",
        "enable it in the portal, or choose another subscription",
    ),
    # Names
    CatalogEntry(
        "StorageAccountAlreadyTaken",
        r"^(?:.*?named (?P<name>[a-z0-9]+))?",
        "The storage account name {name} is taken by somebody else: these names are unique in all of Azure.",
        "choose another storage_account",
    ),
    CatalogEntry(
        "StorageAccountInAnotherResourceGroup StorageAccountAlreadyExists",
        ANY,
        "A storage account of this name is in another resource group of the subscription.",
        "choose another storage_account, or that resource group",
    ),
    CatalogEntry(
        "AccountNameInvalid ResourceNameInvalid InvalidResourceName ContainerAppInvalidName "
        "InvalidContainerAppName",
        ANY,
        "Azure does not accept this name.",
        _OTHER_NAME,
    ),
)
"""The first row whose code and message fit counts: the more telling ones come first."""
