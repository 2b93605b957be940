"""Check the subscription, its resource providers, the existing resources, and the storage account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from nbtoolkit.azure.arm.existing_resources import Body
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.arm.resource_providers import ResourceProvider
from nbtoolkit.azure.arm.subscriptions import USABLE
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.models import AppState, EnvironmentState
from nbtoolkit.azure.errors.translate import translate_errors
from nbtoolkit.errors import AzureFailed
from nbtoolkit.provisioning.checks import Preflight

_NO_ACCESS = (400, 403, 404)
"""Status codes for a subscription that does not exist or that the user may not read."""
_TYPES = {
    "Microsoft.App": "managedEnvironments",
    "Microsoft.Storage": "storageAccounts",
    "Microsoft.OperationalInsights": "workspaces",
}
_DONE = ("", "Succeeded")
_KINDS_WITHOUT_SHARES = ("BlobStorage", "BlockBlobStorage")


def check_subscription_state(found: Preflight, answer: Any) -> None:
    """Block if the subscription is missing or disabled; ``answer`` is its model, None or an error."""
    settings = found.settings
    if isinstance(answer, AzureFailed) and answer.status not in _NO_ACCESS:
        found.warn(not_checked(answer))
    elif answer is None or isinstance(answer, AzureFailed):
        found.block(
            f"The subscription {settings.subscription} does not exist, or your account may not read it: "
            "choose one from the list, or sign in with an account that may."
        )
    else:
        state = str(getattr(answer.state, "value", answer.state))
        found.facts["subscription"] = f"{answer.display_name} ({settings.subscription})"
        if state not in USABLE:
            found.block(
                f"The subscription {answer.display_name} is {state.lower()}, so nothing can be created in "
                "it: choose another one, or enable it in the portal."
            )


def check_providers(found: Preflight, providers: Sequence[ResourceProvider]) -> None:
    """Block if the region lacks a provider, or if one is not registered and must not be."""
    location = found.settings.location
    missing = [
        one.namespace
        for one in providers
        if location and one.offers(_TYPES[one.namespace], location) is False
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        found.block(
            f"{', '.join(missing)} {verb} not available in {location}: choose another region, such as "
            "westus3 or swedencentral."
        )
    found.unregistered = unregistered = tuple(one.namespace for one in providers if not one.registered)
    if unregistered and not found.settings.register_providers:
        commands = "; ".join(f"az provider register -n {namespace}" for namespace in unregistered)
        found.block(
            f"The subscription is not registered with {', '.join(unregistered)}: set register_providers, or "
            f"run {commands}. It costs nothing and takes about a minute."
        )
    elif providers:
        found.facts["providers"] = (
            f"{', '.join(unregistered)} will be registered" if unregistered else "all registered"
        )


def check_resources(found: Preflight) -> None:
    """Block if Azure still changes the environment or the app, or if the environment failed."""
    existing, names = found.existing, found.existing.names
    group = "will be created" if existing.group is None else "exists"
    found.facts["resource group"] = f"{names.resource_group} {group}"
    found.facts["region"] = found.settings.location or "that of the resource group"
    found.facts["environment"] = _plan(names.environment, existing.environment, "exists and is not changed")
    found.facts["app"] = _plan(names.app, existing.app, "exists")
    environment = EnvironmentState(existing.environment or {})
    for kind, name, state in (
        ("environment", names.environment, environment.provisioning_state),
        ("app", names.app, AppState(existing.app or {}).provisioning_state),
    ):
        if state == "Failed" and kind == "app":
            found.warn(f"The last change of the app {name} failed; provisioning applies it again.")
        elif state not in _DONE:
            found.block(
                f"The {kind} {name} is in the state {state}: wait until Azure has finished; if the state is "
                "Failed, look at it in the portal or choose another name."
            )
    if environment.network.get("internal"):
        found.warn(
            f"The environment {names.environment} is internal: the endpoint can be reached only from its "
            "virtual network. Deploy and chat from there, or choose another environment_name."
        )


def not_checked(error: AzureFailed) -> str:
    """Return the warning for a query that Azure refused."""
    return f"{error.message} That was not checked; {error.next_step}."


def _plan(name: str, body: Body | None, existing: str) -> str:
    return f"{name} {'will be created' if body is None else existing}"


def unavailable_name(cloud: Cloud, names: ResourceNames) -> str | None:
    """Return why the storage account cannot get its name, None if it can. One request."""
    name = names.storage_account
    client: Any = cloud.storage(names.subscription)
    with translate_errors(f"check whether the name {name} is free"):
        answer = client.storage_accounts.check_name_availability(
            {"name": name, "type": "Microsoft.Storage/storageAccounts"}
        )
    if answer.name_available:
        return None
    if str(getattr(answer.reason, "value", answer.reason)) == "AlreadyExists":
        return (
            f"The storage account name {name} is taken, in another resource group or subscription (such "
            "names are unique in all of Azure): choose another storage_account."
        )
    return f"{name} is not a valid name of a storage account: {answer.message}"


def check_storage(found: Preflight) -> None:
    """Block if a replica cannot mount the share of an existing account, or this kernel cannot reach it."""
    existing, location, name = found.existing, found.settings.location, found.existing.names.storage_account
    account, share = existing.storage_account, existing.names.file_share
    if account is None:
        found.facts["storage"] = f"{name} will be created, with the share {share}"
        return
    found.facts["storage"] = f"{name} exists, share {share} " + (
        "will be created" if existing.file_share is None else "exists"
    )
    if account.get("kind") in _KINDS_WITHOUT_SHARES:
        found.block(
            f"The storage account {name} is of the kind {account['kind']}, which has no file shares: "
            "choose another storage_account."
        )
    properties: Mapping[str, Any] = account.get("properties") or {}
    host = urlsplit(str((properties.get("primaryEndpoints") or {}).get("file") or "")).hostname
    if host and host != f"{name}.file.core.windows.net".lower():
        found.block(
            f"The shares of the storage account {name} are at {host}, and nbtoolkit connects to "
            f"{name}.file.core.windows.net: choose an account with standard endpoints."
        )
    if properties.get("allowSharedKeyAccess") is False:
        found.block(
            f"The storage account {name} refuses its keys, and Container Apps can mount a share only with "
            'a key: enable "Allow storage account key access" in its Configuration page, or choose another '
            "storage_account. If a policy of your organisation forbids it, request an exemption."
        )
    _check_network(found, properties)
    region = normalize_region(str(account.get("location") or location))
    if region != location:
        found.warn(
            f"The storage account {name} is in {region} and the app in {location}: models load more "
            "slowly, and traffic between regions is billed."
        )
    protocol = ((existing.file_share or {}).get("properties") or {}).get("enabledProtocols")
    if protocol not in (None, "", "SMB"):
        found.block(
            f"The share {share} uses the protocol {protocol}, and the app mounts SMB: "
            "choose another file_share."
        )


def _check_network(found: Preflight, properties: Mapping[str, Any]) -> None:
    name = found.existing.names.storage_account
    rules: Mapping[str, Any] = properties.get("networkAcls") or {}
    subnet = EnvironmentState(found.existing.environment or {}).network.get("infrastructureSubnetId")
    private = subnet and any(_is_approved(one) for one in properties.get("privateEndpointConnections") or ())
    closed = properties.get("publicNetworkAccess") in ("Disabled", "SecuredByPerimeter")
    if private and (closed or rules.get("defaultAction") == "Deny"):
        found.warn(
            f"The storage account {name} has private endpoints only: the app can mount its share only if one "
            "of them is in the environment's network, and this kernel can upload only from that network."
        )
    elif closed:
        found.block(
            f"The storage account {name} refuses requests from public networks, so neither app nor this "
            "kernel reaches it: enable them in its Networking page, or choose another storage_account."
        )
    elif rules.get("defaultAction") == "Deny":
        allowed = [str(rule.get("id", "")).lower() for rule in rules.get("virtualNetworkRules") or ()]
        if subnet and subnet.lower() in allowed:
            found.warn(
                f"The firewall of the storage account {name} allows the environment; this kernel can upload "
                "only from one of the addresses that the firewall allows."
            )
        elif subnet and rules.get("ipRules"):
            found.warn(
                f"The firewall of the storage account {name} allows some addresses: the share can be mounted "
                "only if the environment's outbound address is one of them."
            )
        else:
            found.block(
                f"The firewall of the storage account {name} denies the environment, so the share cannot be "
                "mounted: allow its network, or all networks, in the account's Networking page, or choose "
                "another storage_account."
            )


def _is_approved(connection: Mapping[str, Any]) -> bool:
    state = (connection.get("properties") or {}).get("privateLinkServiceConnectionState") or {}
    return state.get("status") in (None, "Approved")
