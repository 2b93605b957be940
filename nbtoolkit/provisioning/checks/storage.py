"""Whether the storage account can be mounted, or made under its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import EnvironmentState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.provisioning.checks.findings import Findings

_WITHOUT_FILES = ("BlobStorage", "BlockBlobStorage")


def name_taken(cloud: Cloud, names: ResourceNames) -> str | None:
    """Return why an account cannot get its name, None where it can. One request."""
    client: Any = cloud.storage(names.subscription)
    with translate_errors(f"ask whether the name {names.storage_account} is free"):
        answer = client.storage_accounts.check_name_availability(
            {"name": names.storage_account, "type": "Microsoft.Storage/storageAccounts"}
        )
    if answer.name_available:
        return None
    if str(getattr(answer.reason, "value", answer.reason)) == "AlreadyExists":
        return (
            f"The storage account name {names.storage_account} is taken, by somebody else or in another "
            "group (such names are unique in all of Azure): choose another storage_account."
        )
    return f"{names.storage_account} cannot be the name of a storage account: {answer.message}"


def check_account(existing: ExistingResources, location: str) -> Findings:
    """Tell whether a replica can mount the share of an account that exists, and this kernel reach it."""
    found, names = Findings(), existing.names
    name = names.storage_account
    account = existing.storage_account
    if account is None:
        found.facts["storage"] = f"{name} is created, with the share {names.file_share}"
        return found
    found.facts["storage"] = f"{name} exists, share {names.file_share} " + (
        "is created" if existing.file_share is None else "exists"
    )
    if account.get("kind") in _WITHOUT_FILES:
        found.block(
            f"The storage account {name} is of the kind {account['kind']}, which has no "
            "shares: choose another storage_account."
        )
    properties: Mapping[str, Any] = account.get("properties") or {}
    host = urlsplit(str((properties.get("primaryEndpoints") or {}).get("file") or "")).hostname
    if host and host != f"{name}.file.core.windows.net".lower():
        found.block(
            f"The shares of the storage account {name} are at {host}, and nbtoolkit looks for "
            f"them at {name}.file.core.windows.net: choose an account with standard endpoints."
        )
    if properties.get("allowSharedKeyAccess") is False:
        found.block(
            f"The storage account {name} refuses its keys, and Container Apps mounts a share "
            'with nothing else: enable "Allow storage account key access" in its Configuration page, or '
            "choose another storage_account. If a policy of your organisation forbids it, ask for exemption."
        )
    _check_network(found, existing, properties)
    there = normalize_region(str(account.get("location") or location))
    if there != location:
        found.warn(
            f"The storage account {name} is in {there} and the app in {location}: models load "
            "more slowly, and traffic between regions is billed."
        )
    _check_share(found, existing)
    return found


def _check_network(found: Findings, existing: ExistingResources, properties: Mapping[str, Any]) -> None:
    account = existing.names.storage_account
    rules: Mapping[str, Any] = properties.get("networkAcls") or {}
    subnet = _subnet(existing)
    private = subnet and any(_approved(one) for one in properties.get("privateEndpointConnections") or ())
    closed = properties.get("publicNetworkAccess") in ("Disabled", "SecuredByPerimeter")
    if private and (closed or rules.get("defaultAction") == "Deny"):
        found.warn(
            f"The storage account {account} is reached over private endpoints: the app mounts its share only "
            "where one of them is in the environment's network, and this kernel uploads only from within it."
        )
    elif closed:
        found.block(
            f"The storage account {account} takes no requests from public networks, so neither app nor this "
            "kernel reaches it: enable them in its Networking page, or choose another storage_account."
        )
    elif rules.get("defaultAction") == "Deny":
        allowed = [str(rule.get("id", "")).lower() for rule in rules.get("virtualNetworkRules") or ()]
        if subnet and subnet.lower() in allowed:
            found.warn(
                f"The firewall of the storage account {account} lets the environment in; this kernel "
                "can only upload from one of the addresses that it names."
            )
        elif subnet and rules.get("ipRules"):
            found.warn(
                f"The firewall of the storage account {account} lets in some addresses: the share can be "
                "mounted only where the environment's network goes out from one of them."
            )
        else:
            found.block(
                f"The firewall of the storage account {account} shuts the environment out, so the share "
                "cannot be mounted: allow its network, or all networks, in the account's Networking page, or "
                "choose another storage_account."
            )


def _check_share(found: Findings, existing: ExistingResources) -> None:
    share: Mapping[str, Any] = (existing.file_share or {}).get("properties") or {}
    protocol = share.get("enabledProtocols")
    if protocol not in (None, "", "SMB"):
        found.block(
            f"The share {existing.names.file_share} speaks {protocol}, and the app mounts SMB: choose "
            "another file_share."
        )


def _approved(connection: Mapping[str, Any]) -> bool:
    state = (connection.get("properties") or {}).get("privateLinkServiceConnectionState") or {}
    return state.get("status") in (None, "Approved")


def _subnet(existing: ExistingResources) -> str | None:
    return EnvironmentState(existing.environment or {}).network.get("infrastructureSubnetId")
