"""Roles at a group and a subscription allow actions."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.arm.permissions import Grant, Grants, group_permissions, subscription_permissions
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.azure_double.permissions import Role


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        ([Grant(("*",))], True),
        ([Grant(("Microsoft.App/*",))], True),
        ([Grant(("microsoft.app/containerapps/WRITE",))], True),
        ([Grant(("*/write",))], True),
        ([Grant(("*/read",))], False),
        ([Grant(("Microsoft.App/containerApps/*/action",))], False),
        ([Grant(("*",), ("Microsoft.App/*/write",))], False),
        ([Grant(("*",), ("Microsoft.App/*/write",)), Grant(("Microsoft.App/containerApps/write",))], True),
        ([Grant(("Microsoft.App/containerApps",))], False),
        ([], False),
    ],
)
def test_wildcards_in_actions_and_not_actions(grants: list[Grant], allowed: bool) -> None:
    assert Grants(tuple(grants)).allow("Microsoft.App/containerApps/write") is allowed


def test_permissions_are_read_for_group_and_subscription(azure_double: AzureDouble) -> None:
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
    azure_double.arm.groups.add("rg")
    azure_double.arm.permissions.roles = [
        Role(actions=["*/read"]),
        Role(actions=["*"], not_actions=["Microsoft.Authorization/*"], scope=group),
    ]
    cloud = Cloud.shared()
    assert group_permissions(cloud, SUBSCRIPTION, "rg").allow("Microsoft.App/containerApps/write")
    assert group_permissions(cloud, SUBSCRIPTION, "rg").missing(
        ["Microsoft.App/register/action", "Microsoft.Authorization/roleAssignments/write"]
    ) == ["Microsoft.Authorization/roleAssignments/write"]
    assert not subscription_permissions(cloud, SUBSCRIPTION).allow("Microsoft.App/register/action")


def test_permissions_that_cannot_be_read_raise_azure_failed(azure_double: AzureDouble) -> None:
    azure_double.arm.subscriptions.states.clear()
    with pytest.raises(AzureFailed) as caught:
        subscription_permissions(Cloud.shared(), SUBSCRIPTION)
    assert caught.value.__dict__["status"] == 404
