"""What an id of Azure Resource Manager says of its resource: the type, the name, and both in words."""

from __future__ import annotations

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
"""A machine of an environment: a part of it, with no address of its own in Azure."""

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


class Place(NamedTuple):
    """Where a resource lies, and its own name."""

    subscription: str
    group: str
    name: str


def place_of(resource_id: str) -> Place:
    """Return subscription, resource group and own name of a resource in a group."""
    parts = resource_id.split("/")
    return Place(parts[2], parts[4], parts[-1])


def type_of(resource_id: str) -> str:
    """Return the type of a resource as the id spells it."""
    namespace, *rest = resource_id.rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])


def kind_of(resource_id: str) -> str:
    """Return the type of a resource in lower case, to compare with the constants here."""
    return type_of(resource_id).lower()


def name_of(resource_id: str) -> str:
    """Return the name of a resource, with its parents'."""
    return "/".join(resource_id.rpartition("/providers/")[2].split("/")[2::2])


def title_of(resource_id: str) -> str:
    """Return what a resource is and its own name, in words."""
    if "/providers/" not in resource_id:
        return f"resource group {resource_id.rpartition('/')[2]}"
    kind = kind_of(resource_id)
    name = name_of(resource_id) if kind == PROFILE else resource_id.rpartition("/")[2]
    return f"{_TITLES.get(kind, kind)} {name}"
