"""The regions of the double."""

from __future__ import annotations

from typing import Any

REGIONS = {
    "eastus": ("East US", "US", "Virginia"),
    "eastus2": ("East US 2", "US", "Virginia"),
    "westus": ("West US", "US", "California"),
    "westus3": ("West US 3", "US", "Phoenix"),
    "swedencentral": ("Sweden Central", "Europe", "Gävle"),
    "westeurope": ("West Europe", "Europe", "Netherlands"),
    "australiaeast": ("Australia East", "Asia Pacific", "New South Wales"),
}


def short(location: str) -> str:
    """West US 3 → westus3."""
    return location.replace(" ", "").lower()


def display(location: str) -> str:
    """westus3 → West US 3; an unknown name is returned unchanged."""
    region = REGIONS.get(short(location))
    return region[0] if region else location


def listing(subscription: str) -> list[dict[str, Any]]:
    """The regions as ARM lists them, a logical one at the end."""
    found: list[dict[str, Any]] = []
    for name, (shown, group, place) in REGIONS.items():
        metadata = {
            "regionType": "Physical",
            "regionCategory": "Recommended",
            "geography": group,
            "geographyGroup": group,
            "longitude": "0.0",
            "latitude": "0.0",
            "physicalLocation": place,
            "pairedRegion": [],
        }
        found.append(_region(subscription, name, shown, f"({group}) {shown}", metadata))
    logical = {
        "regionType": "Logical",
        "regionCategory": "Other",
        "geography": "Global",
        "geographyGroup": "Global",
    }
    return [*found, _region(subscription, "global", "Global", "Global", logical)]


def _region(
    subscription: str, name: str, shown: str, regional: str, metadata: dict[str, Any]
) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{subscription}/locations/{name}",
        "name": name,
        "type": "Region",
        "displayName": shown,
        "regionalDisplayName": regional,
        "metadata": metadata,
    }
