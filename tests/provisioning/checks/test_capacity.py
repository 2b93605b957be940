"""The preflight's check of quotas."""

from __future__ import annotations

from typing import Any

import pytest

from tests.azure_double import AzureDouble
from tests.support.preflight_resources import A100, Check, only, put_environment


@pytest.mark.parametrize(
    ("limits", "values", "words"),
    [
        (
            {"SubscriptionConsumptionNCA100Gpus": 0},
            {},
            ("is 0", "portal.azure.com", "Azure Container Apps"),
        ),
        ({"SubscriptionConsumptionT4Gpus": 2}, {"gpu": "T4", "max_replicas": 3}, ("3 GPUs", "max_replicas")),
        ({"ConsumptionNCA100GpusEnvCount": 0}, {}, ("0 environments with A100", "portal.azure.com")),
        ({"ManagedEnvironmentCount": 0}, {}, ("All 0 environments", "environment_name")),
        ({"SubscriptionNCA100Gpus": 0}, {"gpu": "dedicated-A100"}, ("SubscriptionNCA100Gpus is 0",)),
    ],
)
def test_a_short_quota_blocks_with_the_page_to_raise_it(
    check: Check, azure: AzureDouble, limits: dict[str, int], values: dict[str, Any], words: tuple[str, ...]
) -> None:
    azure.apps.quota.limits |= limits
    only(check(**values).blockers, *words)


def test_a_trial_without_gpu_needs_no_gpu_quota(check: Check, azure: AzureDouble) -> None:
    azure.apps.quota.limits |= {"SubscriptionConsumptionNCA100Gpus": 0, "ConsumptionNCA100GpusEnvCount": 0}
    found = check(gpu="none")
    assert found.ok
    assert found.facts["quota"] == "no GPU needed"


def test_a_quota_without_gpus_for_a_second_set_is_a_warning(check: Check, azure: AzureDouble) -> None:
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    found = check()
    assert found.ok
    only(found.warnings, "does not allow a second set", "stop the app")


def test_a_region_without_a_quota_of_that_name_is_a_warning(check: Check, azure: AzureDouble) -> None:
    del azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"]
    found = check()
    assert found.ok
    only(found.warnings, "lists no quota", "westus3")


def test_an_existing_gpu_environment_needs_no_further_quota(check: Check, azure: AzureDouble) -> None:
    put_environment(azure, A100)
    found = check(environment_name="env")
    assert found.ok
    assert found.quota is not None
    assert found.quota.environments_free == 0
    only(check(environment_name="other").blockers, "All 1 environments with A100")
