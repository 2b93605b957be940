"""An account with a share on the double, as a provision leaves them."""

from __future__ import annotations

from nbtoolkit.azure.arm.resource_names import ResourceNames

from .double import AzureDouble
from .share_auth import Account

GROUP = "rg"
ACCOUNT = "aistorage12345"
SHARE = "aifileshare12345"


def provisioned_share(double: AzureDouble) -> ResourceNames:
    """Create a group, a storage account and a share; return their names."""
    found = ResourceNames(double.subscription, GROUP, ACCOUNT, SHARE, "aiacaapp12345")
    double.arm.groups.add(GROUP)
    body = {"location": "westus3", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}}
    call = double.arm.put(found.account_id, body)
    assert call.operation
    call.operation.wait()
    double.arm.put(f"{found.account_id}/fileServices/default/shares/{SHARE}", {"properties": {}})
    return found


def account_of(double: AzureDouble, found: ResourceNames) -> Account:
    """Return the account's data plane: its keys, roles and firewall."""
    return double.files.create_account(found.storage_account)
