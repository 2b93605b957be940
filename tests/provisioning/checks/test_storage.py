"""The preflight's check of the storage account."""

from __future__ import annotations

from typing import Any

import pytest

from tests.azure_double import AzureDouble
from tests.support.preflight_resources import A100, GROUP, Check, only, put, put_account, put_environment


def test_a_taken_account_name_blocks(check: Check, azure: AzureDouble) -> None:
    azure.arm.storage_accounts.taken.add("wanted")
    only(check(storage_account="wanted").blockers, "wanted is taken", "choose another storage_account")


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"allowSharedKeyAccess": False}, ("refuses its keys", "Allow storage account key access")),
        ({"publicNetworkAccess": "Disabled"}, ("refuses requests from public networks", "Networking")),
        ({"networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices"}}, ("firewall", "Networking")),
        (
            {"primaryEndpoints": {"file": "https://mine.z01.file.storage.azure.net/"}},
            ("mine.z01.file.storage.azure.net", "standard endpoints"),
        ),
    ],
)
def test_an_account_that_cannot_be_mounted_blocks(
    check: Check, azure: AzureDouble, properties: dict[str, Any], words: tuple[str, ...]
) -> None:
    put_account(azure, **properties)
    only(check(storage_account="mine").blockers, "mine", *words)


def test_a_firewall_that_allows_the_environment_is_a_warning(check: Check, azure: AzureDouble) -> None:
    subnet = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/apps"
    put_environment(azure, A100, vnetConfiguration={"infrastructureSubnetId": subnet})
    put_account(azure, networkAcls={"defaultAction": "Deny", "virtualNetworkRules": [{"id": subnet.upper()}]})
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("allows the environment" in sentence for sentence in found.warnings)


def test_private_endpoints_with_a_virtual_network_are_a_warning(check: Check, azure: AzureDouble) -> None:
    subnet = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/apps"
    put_environment(azure, A100, vnetConfiguration={"infrastructureSubnetId": subnet, "internal": True})
    made = put_account(azure, publicNetworkAccess="Disabled")
    blocked = check(storage_account="mine", environment_name="env")
    only(blocked.blockers, "refuses requests from public networks")
    assert any("is internal" in one and "another environment_name" in one for one in blocked.warnings)
    approved = {"privateLinkServiceConnectionState": {"status": "Approved"}}
    made["properties"]["privateEndpointConnections"] = [{"properties": approved}]
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("private endpoints" in one for one in found.warnings)
    made["properties"] |= {"publicNetworkAccess": "Enabled", "privateEndpointConnections": []}
    made["properties"]["networkAcls"] = {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7"}]}
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("allows some addresses" in one for one in found.warnings)


def test_storage_in_another_region_is_a_warning(check: Check, azure: AzureDouble) -> None:
    put_account(azure, location="westus3")
    found = check(storage_account="mine")
    assert found.ok
    assert any("in westus3 and the app in swedencentral" in sentence for sentence in found.warnings)


def test_an_account_without_file_shares_blocks(check: Check, azure: AzureDouble) -> None:
    put_account(azure)["kind"] = "BlockBlobStorage"
    only(check(storage_account="mine").blockers, "BlockBlobStorage", "no file shares")


def test_an_nfs_share_blocks(check: Check, azure: AzureDouble) -> None:
    put_account(azure)
    path = "Microsoft.Storage/storageAccounts/mine/fileServices/default/shares/s-1"
    put(azure, path, {"properties": {"shareQuota": 10}})["properties"]["enabledProtocols"] = "NFS"
    only(check(storage_account="mine", file_share="s-1").blockers, "uses the protocol NFS")
