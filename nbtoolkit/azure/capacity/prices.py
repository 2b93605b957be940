"""What a machine costs by Azure's public price list; "unknown" where that cannot be reached."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import Hardware
from nbtoolkit.azure.capacity.quota import region_name
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import StoreError
from nbtoolkit.utils.atomic_write import write_atomically

URL = "https://prices.azure.com/api/retail/prices"
_UNREACHED = "unknown: the public price list was not reachable"
TIMEOUT = 4.0
"""Seconds for one request; a plan does not wait longer for a price."""
A_DAY = 86_400
_PAGES = 5
_SECONDS = {"Second": 1, "Hour": 3600}


@dataclass(frozen=True)
class Price:
    """List price of one replica's machine, in ``currency``, without discounts and free grants."""

    hardware: Hardware
    region: str
    per_second: float
    currency: str

    @property
    def per_hour(self) -> float:
        """Price of an hour."""
        return self.per_second * 3600

    def __str__(self) -> str:
        when = "while it runs" if self.hardware.serverless else "while the profile holds the machine"
        return (
            f"{self.per_second:.6f} {self.currency} a second, {self.per_hour:.2f} {self.currency} an hour, "
            f"{when} (list price, {self.hardware.label}, {self.region})"
        )


def price_of(cloud: Cloud, hardware: Hardware, region: str, cache: Path) -> Price | None:
    """Return the list price of a machine in a region, None where it is not known.

    The list is read once a day and kept in the folder ``cache``; needs no sign-in. At most a few requests of
    4 s each, and never an error: a plan is as good without a price.
    """
    where = region_name(region)
    meters = _meters(cloud, where, cache)
    found = [meters.get(meter.name) for meter in hardware.meters]
    if not found or any(entry is None for entry in found):
        return None
    prices = [entry for entry in found if entry is not None]
    per_second = sum(
        meter.amount * entry["second"] for meter, entry in zip(hardware.meters, prices, strict=True)
    )
    return Price(hardware, where, per_second, str(prices[0]["currency"]))


def unknown(hardware: Hardware, region: str, cache: Path) -> str:
    """Return why :func:`price_of` knew no price, in words; asks nobody."""
    where = region_name(region)
    if not where or _kept(_file(cache, where)) is None:
        return _UNREACHED
    return f"unknown: the public price list has no price of {hardware.label} in {where}"


def _file(cache: Path, region: str) -> Path:
    return cache / f"prices-{region}.json"


def _meters(cloud: Cloud, region: str, cache: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return meter → price a second and currency, out of the cache or the list."""
    file = _file(cache, region)
    kept = _kept(file)
    if kept is not None:
        return kept
    meters = _asked(cloud, region)
    if meters:
        try:
            write_atomically(file, json.dumps({"at": time.time(), "meters": meters}).encode())
        except StoreError:
            return meters  # the next plan asks again
    return meters


def _kept(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        fresh = 0 <= time.time() - float(content["at"]) < A_DAY
        return dict(content["meters"]) if fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _asked(cloud: Cloud, region: str) -> dict[str, dict[str, Any]]:
    import httpx

    wanted = {
        "serviceName": "Azure Container Apps",
        "armRegionName": region,
        "priceType": "Consumption",
    }
    query = " and ".join(f"{name} eq '{value}'" for name, value in wanted.items())
    url, parameters = URL, {"$filter": query}
    meters: dict[str, dict[str, Any]] = {}
    try:
        for _ in range(_PAGES):
            answer = cloud.http().get(url, params=parameters or None, timeout=TIMEOUT)
            answer.raise_for_status()
            page: dict[str, Any] = answer.json()
            meters |= _read(page.get("Items") or [])
            url, parameters = str(page.get("NextPageLink") or ""), {}
            if not url.startswith(URL):
                break
    except (httpx.HTTPError, ValueError):
        return {}
    return meters


def _read(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the prices of metered time; of a meter with steps the one after the free grant."""
    found: dict[str, dict[str, Any]] = {}
    for item in sorted(items, key=lambda item: float(item.get("tierMinimumUnits") or 0)):
        unit = str(item.get("unitOfMeasure") or "").split()
        seconds = _SECONDS.get(unit[-1]) if unit and unit[0] == "1" else None
        price = float(item.get("retailPrice") or 0)
        if seconds and price > 0:
            entry = {"second": price / seconds, "currency": item.get("currencyCode") or "USD"}
            found[str(item.get("meterName"))] = entry
    return found
