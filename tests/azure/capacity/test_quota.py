"""The quotas of a region become the headroom of a GPU profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.capacity.quota import QuotaHeadroom, QuotaUsage, normalize_region, quota_headroom
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import InvalidSettings
from tests.azure_double import SUBSCRIPTION, AzureDouble


def test_headroom_is_the_limit_less_the_use(azure_double: AzureDouble) -> None:
    room = quota_headroom(Cloud.shared(), SUBSCRIPTION, "West US 3", GPU_PROFILES["T4"])
    assert (room.region, room.gpus) == ("westus3", QuotaUsage(8, 0))
    assert room.gpu_environments == QuotaUsage(2, 0)
    assert (room.has(8), room.has(9)) == (True, False)
    assert "0 of 8 in use" in str(room)
    cpu = quota_headroom(Cloud.shared(), SUBSCRIPTION, "westus3", GPU_PROFILES["none"])
    assert cpu.has(5) is True
    unknown = QuotaHeadroom(GPU_PROFILES["A100"], "westus3", None, None, None)
    assert unknown.has(1) is None
    assert QuotaUsage(limit=1, used=3).free == 0


def test_recorded_usages_have_every_quota_of_the_gpu_profiles(shared: Path) -> None:
    lines = (shared / "azure/recordings/containerapp-cli-2025.jsonl").read_text().splitlines()
    recorded = [
        one for one in map(json.loads, lines) if "/locations/northcentralusstage/usages" in one["url"]
    ]
    names = {entry["name"]["value"] for entry in json.loads(recorded[0]["resp_body"])["value"]}
    wanted = {
        name for one in GPU_PROFILES.values() for name in (one.gpu_quota, one.environment_quota) if name
    }
    assert wanted <= names


def test_an_unknown_gpu_profile_lists_the_known_ones() -> None:
    with pytest.raises(InvalidSettings, match="H100") as caught:
        GpuProfile.by_name("H100")
    assert "A100, T4, dedicated-A100, none" in caught.value.next_step


def test_a_region_is_normalized_as_in_paths() -> None:
    assert [normalize_region(text) for text in ("West US 3", "westus3", " Sweden Central ")] == [
        "westus3",
        "westus3",
        "swedencentral",
    ]
