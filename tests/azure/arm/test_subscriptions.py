"""What there is to pick from in Azure, what the account may do, and what a machine costs there."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm import subscriptions as places
from nbtoolkit.azure.arm.permissions import Grant, Grants, group_permissions, subscription_permissions
from nbtoolkit.azure.arm.resource_providers import get_provider, register_providers
from nbtoolkit.azure.auth.shared_credential import signed_in_as
from nbtoolkit.azure.capacity import prices
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.capacity.quota import QuotaHeadroom, QuotaUsage, normalize_region, quota_headroom
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed, InvalidSettings
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble, Request, Response
from tests.azure_double.permissions import Role
from tests.azure_double.tokens import TENANT


def test_who_is_signed_in_comes_from_one_token(azure_double: AzureDouble) -> None:
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


def test_no_subscription_and_only_disabled_ones_say_what_to_do(azure_double: AzureDouble) -> None:
    azure_double.arm.subscriptions.states[SUBSCRIPTION] = "Disabled"
    with pytest.raises(AzureFailed, match="Double is disabled") as caught:
        places.subscriptions()
    assert "portal" in caught.value.next_step
    azure_double.arm.subscriptions.states.clear()
    with pytest.raises(AzureFailed, match="access to no subscription") as caught:
        places.subscriptions()
    assert "az login --tenant" in caught.value.next_step


def test_resource_groups_are_sorted_and_may_be_none(azure_double: AzureDouble) -> None:
    assert places.resource_groups(SUBSCRIPTION) == []
    for name in ("zoo", "Ark"):
        azure_double.arm.groups.add(name, "swedencentral")
    assert [str(one) for one in places.resource_groups(SUBSCRIPTION)] == [
        "Ark (swedencentral)",
        "zoo (swedencentral)",
    ]


def test_regions_with_free_gpus_come_first_and_are_asked_once_each(azure_double: AzureDouble) -> None:
    found = places.regions(SUBSCRIPTION, quota_regions=("westus3", "West Europe"))
    assert [one.name for one in found[:2]] == ["westeurope", "westus3"]
    assert found[0].gpus["A100"] == 2
    assert "2 × A100" in str(found[0])
    assert "global" not in [one.name for one in found]
    assert found[2].gpus == {}
    assert len([seen for seen in azure_double.requests if seen.path.endswith("/usages")]) == 2


def test_a_region_whose_quota_cannot_be_read_is_listed_without(azure_double: AzureDouble) -> None:
    azure_double.arm.permissions.forbid("Microsoft.App/locations/usages/read")
    found = places.regions(SUBSCRIPTION, quota_regions=("westus3",))
    assert {one.name: one.gpus for one in found}["westus3"] == {}


def test_free_gpus_are_what_the_quota_leaves(azure_double: AzureDouble) -> None:
    room = quota_headroom(Cloud.shared(), SUBSCRIPTION, "West US 3", GPU_PROFILES["T4"])
    assert (room.region, room.limit, room.used, room.free) == ("westus3", 8, 0, 8)
    assert room.environments_free == 2
    assert (room.has(8), room.has(9)) == (True, False)
    assert "0 of 8 in use" in str(room)
    cpu = quota_headroom(Cloud.shared(), SUBSCRIPTION, "westus3", GPU_PROFILES["none"])
    assert cpu.has(5) is True
    unknown = QuotaHeadroom(GPU_PROFILES["A100"], "westus3", None, None, None)
    assert (unknown.free, unknown.has(1)) == (None, None)
    assert QuotaUsage(limit=1, used=3).free == 0


def test_recorded_usages_name_every_quota_of_our_machines(shared: Path) -> None:
    lines = (shared / "azure/recordings/containerapp-cli-2025.jsonl").read_text().splitlines()
    recorded = [
        one for one in map(json.loads, lines) if "/locations/northcentralusstage/usages" in one["url"]
    ]
    names = {entry["name"]["value"] for entry in json.loads(recorded[0]["resp_body"])["value"]}
    wanted = {
        name for one in GPU_PROFILES.values() for name in (one.gpu_quota, one.environment_quota) if name
    }
    assert wanted <= names


def test_an_unknown_machine_names_those_there_are() -> None:
    with pytest.raises(InvalidSettings, match="H100") as caught:
        GpuProfile.by_name("H100")
    assert "A100, T4, dedicated-A100, none" in caught.value.next_step


def test_a_region_is_spelled_as_in_paths() -> None:
    assert [normalize_region(text) for text in ("West US 3", "westus3", " Sweden Central ")] == [
        "westus3",
        "westus3",
        "swedencentral",
    ]


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
def test_wildcards_give_and_take_actions(grants: list[Grant], allowed: bool) -> None:
    assert Grants(tuple(grants)).allow("Microsoft.App/containerApps/write") is allowed


def test_rights_are_read_at_group_and_subscription(azure_double: AzureDouble) -> None:
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


def test_rights_that_may_not_be_read_are_an_error_of_azure(azure_double: AzureDouble) -> None:
    azure_double.arm.subscriptions.states.clear()
    with pytest.raises(AzureFailed) as caught:
        subscription_permissions(Cloud.shared(), SUBSCRIPTION)
    assert caught.value.__dict__["status"] == 404


def test_providers_are_registered_and_waited_for(
    azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtoolkit.azure.sdk.POLL_INTERVAL", 0.05)
    azure_double.arm.providers.states["Microsoft.App"] = "NotRegistered"
    cloud = Cloud.shared()
    assert not get_provider(cloud, SUBSCRIPTION, "Microsoft.App").registered
    progress = Progress()
    register_providers(cloud, SUBSCRIPTION, ["Microsoft.App"], progress)
    assert get_provider(cloud, SUBSCRIPTION, "Microsoft.App").registered
    assert progress.current_phase == "Registering Microsoft.App"


def test_a_registration_that_takes_too_long_says_so(azure_double: AzureDouble) -> None:
    azure_double.arm.providers.states["Microsoft.App"] = "NotRegistered"
    with pytest.raises(AzureFailed, match="still registering") as caught:
        register_providers(Cloud.shared(), SUBSCRIPTION, ["Microsoft.App"], timeout=0)
    assert "run the step again" in caught.value.next_step


def test_a_provider_knows_its_regions(azure_double: AzureDouble) -> None:
    found = get_provider(Cloud.shared(), SUBSCRIPTION, "Microsoft.App")
    assert found.offers("managedEnvironments", "West US 3") is True
    assert found.offers("managedEnvironments", "atlantis") is False
    assert found.offers("unheardOf", "westus3") is None


# Prices: the public list as it answers, with steps and pages.


class PriceList:
    """prices.azure.com with two pages."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.status = 200

    def handle(self, request: Request) -> Response:
        self.asked.append(request.query)
        if self.status != 200:
            return Response(self.status, {}, b"")
        if "$skip" in request.query:
            return Response.of({"Items": [_item("Standard Memory Active Usage", 0.000003, "1 GiB Second")]})
        items = [
            _item("Standard NC T4 v3 GPU Usage", 0.000073, "1 Second"),
            _item("Standard vCPU Active Usage", 0.0, "1 Second"),
            _item("Standard vCPU Active Usage", 0.000024, "1 Second", tier=180_000.0),
            _item("Standard Requests", 0.4, "1M"),
        ]
        return Response.of({"Items": items, "NextPageLink": f"{prices.URL}?$skip=100", "Count": 4})


def _item(meter: str, price: float, unit: str, tier: float = 0.0) -> dict[str, Any]:
    return {
        "currencyCode": "USD",
        "meterName": meter,
        "retailPrice": price,
        "tierMinimumUnits": tier,
        "unitOfMeasure": unit,
    }


@pytest.fixture
def price_list(azure_double: AzureDouble) -> PriceList:
    found = PriceList()
    azure_double.route("prices[.]azure[.]com", found.handle)
    return found


def test_a_price_is_the_sum_of_its_meters_and_asked_once_a_day(price_list: PriceList, tmp_path: Path) -> None:
    price = prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "West US 3", tmp_path)
    assert price is not None
    assert price.per_second == pytest.approx(0.000073 + 8 * 0.000024 + 56 * 0.000003)
    assert "USD an hour, while it runs" in str(price)
    assert "armRegionName eq 'westus3'" in price_list.asked[0]["$filter"]
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) == price
    assert len(price_list.asked) == 2
    file = tmp_path / "prices-westus3.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "at": time.time() - 2 * prices.CACHE_LIFETIME}))
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) == price
    assert len(price_list.asked) == 4


def test_a_price_that_cannot_be_had_is_unknown_and_asked_again(price_list: PriceList, tmp_path: Path) -> None:
    price_list.status = 503
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is None
    assert list(tmp_path.glob("prices*")) == []
    price_list.status = 200
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["A100"], "westus3", tmp_path) is None, "no such meter"
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is not None


def test_a_price_needs_no_sign_in(price_list: PriceList, tmp_path: Path, azure_double: AzureDouble) -> None:
    prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path)
    assert {seen.host for seen in azure_double.requests} == {"prices.azure.com"}


def test_a_damaged_cache_is_only_a_reason_to_ask(price_list: PriceList, tmp_path: Path) -> None:
    (tmp_path / "prices-westus3.json").write_text("{")
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is not None
