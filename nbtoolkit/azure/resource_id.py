"""Parse resource ids of Azure Resource Manager: type, name, title for messages, and portal page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

APP = "microsoft.app/containerapps"
ENVIRONMENT = "microsoft.app/managedenvironments"
ENVIRONMENT_STORAGE = "microsoft.app/managedenvironments/storages"
ACCOUNT = "microsoft.storage/storageaccounts"
FILE_SERVICE = "microsoft.storage/storageaccounts/fileservices"
SHARE = "microsoft.storage/storageaccounts/fileservices/shares"
WORKSPACE = "microsoft.operationalinsights/workspaces"
DEPLOYMENT = "microsoft.resources/deployments"
PROFILE = "microsoft.app/managedenvironments/workloadprofiles"
"""A workload profile of an environment; it has no resource id of its own in Azure."""

QUOTA_PAGE = "https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas"
"""Page on which quotas are shown and raised; the provider there is called Azure Container Apps."""

_TITLES = {
    APP: "container app",
    ENVIRONMENT: "environment",
    ENVIRONMENT_STORAGE: "environment storage",
    ACCOUNT: "storage account",
    FILE_SERVICE: "file service",
    SHARE: "file share",
    WORKSPACE: "Log Analytics workspace",
    PROFILE: "machine",
}


class ResourceLocation(NamedTuple):
    """Subscription, resource group and name of a resource."""

    subscription: str
    group: str
    name: str


def parse_location(resource_id: str) -> ResourceLocation:
    """Return subscription, resource group and name of a resource in a group."""
    parts = resource_id.split("/")
    return ResourceLocation(parts[2], parts[4], parts[-1])


def is_within(resource_id: str, parents: Iterable[str]) -> bool:
    """Return whether a resource is one of ``parents`` or inside one of them; case does not matter."""
    lower = resource_id.lower()
    return any(lower == parent.lower() or lower.startswith(f"{parent.lower()}/") for parent in parents)


def type_of(resource_id: str) -> str:
    """Return the type of a resource, spelled as in the id."""
    namespace, *rest = resource_id.rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])


def kind_of(resource_id: str) -> str:
    """Return the type of a resource in lower case, to compare with the constants here."""
    return type_of(resource_id).lower()


def name_of(resource_id: str) -> str:
    """Return the name of a resource, prefixed by the names of its parents."""
    return "/".join(resource_id.rpartition("/providers/")[2].split("/")[2::2])


def title_of(resource_id: str) -> str:
    """Return type and name of a resource for messages, such as ``container app tones``."""
    if "/providers/" not in resource_id:
        return f"resource group {resource_id.rpartition('/')[2]}"
    kind = kind_of(resource_id)
    name = name_of(resource_id) if kind == PROFILE else resource_id.rpartition("/")[2]
    return f"{_TITLES.get(kind, kind)} {name}"


def portal_url(resource_id: str) -> str:
    """Return the URL of the portal's page of a resource."""
    return f"https://portal.azure.com/#resource{resource_id}"
