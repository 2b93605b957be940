"""Subscriptions, resource groups and regions are listed in a useful order."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.arm import subscriptions as places
from nbtoolkit.azure.auth.shared_credential import signed_in_as
from nbtoolkit.errors import AzureFailed
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.azure_double.tokens import TENANT


def test_signed_in_as_requests_one_token(azure_double: AzureDouble) -> None:
    for _ in range(3):
        who = signed_in_as()
    assert (who.tenant, who.source) == (TENANT, "environment")
    assert [seen.path for seen in azure_double.requests if seen.method == "POST"] == [
        f"/{TENANT}/oauth2/v2.0/token"
    ]


def test_usable_subscriptions_come_first_then_names(azure_double: AzureDouble) -> None:
    subscriptions = azure_double.arm.subscriptions
    subscriptions.names[SUBSCRIPTION] = "Zebra"
    for number, (name, state) in enumerate([("Antelope", "Disabled"), ("bear", "Enabled")]):
        id_ = f"00000000-0000-0000-0001-00000000000{number}"
        subscriptions.states[id_], subscriptions.names[id_] = state, name
    found = places.subscriptions()
    assert [(one.name, one.usable) for one in found] == [("bear", True), ("Zebra", True), ("Antelope", False)]
    assert found[0].tenant == TENANT
    assert str(found[2]).endswith(": disabled")


def test_no_usable_subscription_is_an_error_with_a_next_step(azure_double: AzureDouble) -> None:
    azure_double.arm.subscriptions.states[SUBSCRIPTION] = "Disabled"
    with pytest.raises(AzureFailed, match="Double is disabled") as caught:
        places.subscriptions()
    assert "portal" in caught.value.next_step
    azure_double.arm.subscriptions.states.clear()
    with pytest.raises(AzureFailed, match="access to no subscription") as caught:
        places.subscriptions()
    assert "az login --tenant" in caught.value.next_step


def test_resource_groups_are_sorted_and_may_be_empty(azure_double: AzureDouble) -> None:
    assert places.resource_groups(SUBSCRIPTION) == []
    for name in ("zoo", "Ark"):
        azure_double.arm.groups.add(name, "swedencentral")
    assert [str(one) for one in places.resource_groups(SUBSCRIPTION)] == [
        "Ark (swedencentral)",
        "zoo (swedencentral)",
    ]


def test_regions_with_free_gpus_come_first_with_one_request_each(azure_double: AzureDouble) -> None:
    found = places.regions(SUBSCRIPTION, quota_regions=("westus3", "West Europe"))
    assert [one.name for one in found[:2]] == ["westeurope", "westus3"]
    assert found[0].gpus["A100"] == 2
    assert "2 × A100" in str(found[0])
    assert "global" not in [one.name for one in found]
    assert found[2].gpus == {}
    assert len([seen for seen in azure_double.requests if seen.path.endswith("/usages")]) == 2


def test_a_region_whose_quota_cannot_be_read_is_listed_without_gpus(azure_double: AzureDouble) -> None:
    azure_double.arm.permissions.forbid("Microsoft.App/locations/usages/read")
    found = places.regions(SUBSCRIPTION, quota_regions=("westus3",))
    assert {one.name: one.gpus for one in found}["westus3"] == {}
