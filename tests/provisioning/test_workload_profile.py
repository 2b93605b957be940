"""The choice of the workload profile."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.provisioning.workload_profile import choose_profile
from tests.support.app_json import environment, existing, settings


def test_a_profile_is_found_by_its_type_and_a_missing_one_is_added_under_a_free_name() -> None:
    gpu = "Consumption-GPU-NC24-A100"
    there = existing(environment=environment(("Consumption", "Consumption"), ("theirs", gpu)))
    assert choose_profile(settings(), there, "gpu-a100").profile == "theirs"
    there = existing(environment=environment(("Consumption", "Consumption"), ("gpu-a100", "D4")))
    found = choose_profile(settings(), there, "gpu-a100")
    assert found.added == {"name": "gpu-a100-2", "workloadProfileType": gpu}
    assert choose_profile(settings(gpu="none"), there, "Consumption").profile == "Consumption"
    assert choose_profile(settings(), existing(), "gpu-a100").added is None


@pytest.mark.parametrize(
    ("values", "profiles", "sentence"),
    [
        ({}, (), "Consumption only"),
        ({"gpu": "dedicated-A100"}, (("Consumption", "Consumption"),), "only in a new environment"),
        ({"workload_profile": "x"}, (("Consumption", "Consumption"),), "has no profile 'x'"),
    ],
)
def test_an_environment_that_cannot_have_the_profile_blocks(
    values: dict[str, Any], profiles: Any, sentence: str
) -> None:
    found = choose_profile(settings(**values), existing(environment=environment(*profiles)), "gpu-a100")
    assert sentence in (found.blocker or "")
