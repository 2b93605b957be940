"""Operations that nbtoolkit calls without a recording, and their documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from .exchanges import RECORDINGS, recorded
from .operation_names import operation_name

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "azure" / "recordings"

_APP = "REST reference, Container Apps 2026-07-01"
_RESOURCES = "REST reference, Resource Management"
_STORAGE = "REST reference, Storage Resource Provider 2026-09-01"
_LOGIN = "Microsoft identity platform"

DOCUMENTED: Mapping[str, str] = {
    "GET login discovery/instance": f"{_LOGIN}: authority metadata (MSAL asks for it)",
    "GET login v2.0/.well-known/openid-configuration": f"{_LOGIN}: OpenID Connect metadata document",
    "POST login oauth2/v2.0/token": f"{_LOGIN}: OAuth 2.0 client credentials flow",
    "GET prices.azure.com": "Azure Retail Prices REST API overview",
    "GET subscriptions (list)": f"{_RESOURCES}: Subscriptions – List",
    "GET subscriptions": f"{_RESOURCES}: Subscriptions – Get",
    "GET resourceGroups": f"{_RESOURCES}: Resource Groups – Get",
    "POST providers/{namespace}/register": f"{_RESOURCES}: Providers – Register",
    "GET Microsoft.Authorization/permissions (list)": "REST reference, Authorization 2022-04-01: "
    "Permissions – List For Resource Group, and the same of a subscription",
    "GET Microsoft.Resources/deployments/operations (list)": f"{_RESOURCES}: Deployment Operations – List",
    "POST Microsoft.Resources/deployments/cancel": f"{_RESOURCES}: Deployments – Cancel",
    "POST Microsoft.App/containerApps/start": f"{_APP}: Container Apps – Start",
    "POST Microsoft.App/containerApps/stop": f"{_APP}: Container Apps – Stop",
    "POST Microsoft.App/containerApps/revisions/restart": f"{_APP}: Container Apps Revisions – "
    "Restart Revision; facts.md, Revision restart",
    "GET Microsoft.Storage/storageAccounts": f"{_STORAGE}: Storage Accounts – Get Properties",
    "DELETE Microsoft.Storage/storageAccounts": f"{_STORAGE}: Storage Accounts – Delete",
    "GET Microsoft.Storage/storageAccounts/fileServices": f"{_STORAGE}: File Services – Get Service "
    "Properties",
    "DELETE Microsoft.Storage/storageAccounts/fileServices/shares": f"{_STORAGE}: File Shares – Delete",
    "GET Microsoft.Storage/storageAccounts/fileServices/shares": f"{_STORAGE}: File Shares – Get",
    "GET Microsoft.OperationalInsights/workspaces (list)": "REST reference, Log Analytics 2025-07-01: "
    "Workspaces – List",
    "PUT file with content": "REST reference, Azure Files: Create File, content from 2026-02-06 on",
}
"""Operation → its source."""

RARE = {
    "GET login discovery/instance",
    "GET Microsoft.Storage/storageAccounts/fileServices",
    "DELETE Microsoft.Storage/storageAccounts/fileServices/shares",
}
"""Documented operations that not every run calls."""


@cache
def recorded_operations() -> frozenset[str]:
    """Return all recorded operations; none without the recordings."""
    if not FOLDER.is_dir():
        return frozenset()
    return frozenset(operation_name(one) for name in RECORDINGS for one in recorded(FOLDER, name))


def unknown(called: Iterable[str], recorded: Iterable[str]) -> list[str]:
    """Return the called operations that are neither recorded nor documented, ignoring case."""
    known = {name.lower() for name in (*recorded, *DOCUMENTED)}
    return sorted(name for name in called if name.lower() not in known)
