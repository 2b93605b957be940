"""The price of a GPU profile in Azure's public price list; "unknown" if the list cannot be read."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.quota import normalize_region
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import StoreError
from nbtoolkit.utils.atomic_write import write_atomically

URL = "https://prices.azure.com/api/retail/prices"
TIMEOUT = 4.0
"""Seconds for one request; a plan does not wait longer for a price."""
CACHE_LIFETIME = 86_400
"""Seconds for which a price list in the cache is used."""
_MAX_PAGES = 5
_SECONDS = {"Second": 1, "Hour": 3600}


@dataclass(frozen=True)
class Price:
    """List price of one replica, in ``currency``, without discounts and free grants."""

    profile: GpuProfile
    region: str
    per_second: float
    currency: str

    def __str__(self) -> str:
        when = "while it runs" if self.profile.serverless else "while the profile holds the machine"
        currency, per_hour = self.currency, self.per_second * 3600
        terms = f"{when} (list price, {self.profile.label}, {self.region})"
        return f"{self.per_second:.6f} {currency} a second, {per_hour:.2f} {currency} an hour, {terms}"


def price_of(cloud: Cloud, profile: GpuProfile, region: str, cache: Path) -> Price | None:
    """Return the list price of a profile in a region, None if it is not known.

    The list is read once a day and kept in the folder ``cache``; needs no sign-in. At most five requests of
    4 s each, and never an error: a plan is complete without a price.
    """
    name = normalize_region(region)
    prices = _load(cloud, name, cache)
    if not profile.meters.keys() <= prices.keys():
        return None
    per_second = sum(amount * prices[meter]["second"] for meter, amount in profile.meters.items())
    return Price(profile, name, per_second, str(prices[next(iter(profile.meters))]["currency"]))


def price_text(cloud: Cloud, profile: GpuProfile, region: str, cache: Path) -> str:
    """Return the list price as text, else why it is unknown; see :func:`price_of`."""
    name = normalize_region(region)
    if name and (price := price_of(cloud, profile, name, cache)):
        return str(price)
    if not name or _read_cache(_cache_file(cache, name)) is None:
        return "unknown: the public price list was not reachable"
    return f"unknown: the public price list has no price of {profile.label} in {name}"


def _cache_file(cache: Path, region: str) -> Path:
    return cache / f"prices-{region}.json"


def _load(cloud: Cloud, region: str, cache: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return meter → price per second and currency, from the cache or the price list."""
    file = _cache_file(cache, region)
    cached = _read_cache(file)
    if cached is not None:
        return cached
    prices = _download(cloud, region)
    if prices:
        with suppress(StoreError):  # the next plan downloads the list again
            write_atomically(file, json.dumps({"at": time.time(), "meters": prices}).encode())
    return prices


def _read_cache(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        fresh = 0 <= time.time() - float(content["at"]) < CACHE_LIFETIME
        return dict(content["meters"]) if fresh else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _download(cloud: Cloud, region: str) -> dict[str, dict[str, Any]]:
    import httpx

    query = f"serviceName eq 'Azure Container Apps' and armRegionName eq '{region}'"
    query += " and priceType eq 'Consumption'"
    url, parameters = URL, {"$filter": query}
    prices: dict[str, dict[str, Any]] = {}
    try:
        for _ in range(_MAX_PAGES):
            response = cloud.http().get(url, params=parameters or None, timeout=TIMEOUT)
            response.raise_for_status()
            page: dict[str, Any] = response.json()
            prices |= _parse(page.get("Items") or [])
            url, parameters = str(page.get("NextPageLink") or ""), {}
            if not url.startswith(URL):
                break
    except (httpx.HTTPError, ValueError):
        return {}
    return prices


def _parse(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the prices of time meters; of a meter with tiers the one after the free grant."""
    prices: dict[str, dict[str, Any]] = {}
    for item in sorted(items, key=lambda item: float(item.get("tierMinimumUnits") or 0)):
        unit = str(item.get("unitOfMeasure") or "").split()
        seconds = _SECONDS.get(unit[-1]) if unit and unit[0] == "1" else None
        price = float(item.get("retailPrice") or 0)
        if seconds and price > 0:
            currency = item.get("currencyCode") or "USD"
            prices[str(item.get("meterName"))] = {"second": price / seconds, "currency": currency}
    return prices
