"""The price of a GPU profile comes from the public price list, with a cache."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.capacity import prices
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.clients import Cloud
from tests.azure_double import AzureDouble, Request, Response


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


def test_a_price_is_the_sum_of_its_meters_and_cached_for_a_day(price_list: PriceList, tmp_path: Path) -> None:
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


def test_an_unreachable_price_list_is_not_cached(price_list: PriceList, tmp_path: Path) -> None:
    price_list.status = 503
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is None
    assert list(tmp_path.glob("prices*")) == []
    price_list.status = 200
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["A100"], "westus3", tmp_path) is None, "no such meter"
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is not None


def test_a_price_needs_no_sign_in(price_list: PriceList, tmp_path: Path, azure_double: AzureDouble) -> None:
    prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path)
    assert {seen.host for seen in azure_double.requests} == {"prices.azure.com"}


def test_a_damaged_cache_is_replaced(price_list: PriceList, tmp_path: Path) -> None:
    (tmp_path / "prices-westus3.json").write_text("{")
    assert prices.price_of(Cloud.shared(), GPU_PROFILES["T4"], "westus3", tmp_path) is not None
