"""The preflight's checks of quotas and of the base model's memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.capacity.memory_fit import GIB
from tests.azure_double import AzureDouble
from tests.support.model_folders import sized_base
from tests.support.preflight_resources import A100, Check, only, put, put_account, put_environment


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
    assert found.quota.gpu_environments is not None
    assert found.quota.gpu_environments.free == 0
    only(check(environment_name="other").blockers, "All 1 environments with A100")


def test_a_model_that_does_not_fit_blocks_and_the_loading_time_is_a_fact(
    check: Check, workspace_root: Path
) -> None:
    sized_base(workspace_root / "big", 4096, 40)
    found = check(base_model="big", gpu="T4")
    only(found.blockers, "does not fit", "quantization nf4")
    assert "from the share" in found.facts["loading"]
    fine = check(base_model="big", gpu="T4", quantization="nf4")
    assert fine.ok
    assert fine.fit is not None
    assert fine.fit.required < 14.5 * GIB


def test_a_long_load_from_zero_is_a_warning(check: Check, workspace_root: Path) -> None:
    sized_base(workspace_root / "long", 8192, 32)
    assert any(
        "starts from zero" in text or "start from zero" in text for text in check(base_model="long").warnings
    )
    kept = check(base_model="long", min_replicas=1).warnings
    assert not any("start from zero" in text for text in kept)


def test_the_fit_of_a_model_that_is_not_on_this_machine_is_unknown(check: Check) -> None:
    assert any("is unknown" in text for text in check(base_model="org/absent").warnings)
    assert "on the share" in check(base_model="/mount/models/x").facts["base model"]


def test_a_model_on_the_share_is_checked_by_its_headers_there(
    check: Check, azure: AzureDouble, tmp_path: Path
) -> None:
    put_account(azure)
    path = "Microsoft.Storage/storageAccounts/mine/fileServices/default/shares/s-1"
    put(azure, path, {"properties": {"shareQuota": 10}})
    folder = azure.files.folder("mine", "s-1") / "model-cache" / "big"
    folder.mkdir(parents=True)
    sized_base(folder, 4096, 40)
    here: dict[str, Any] = {"storage_account": "mine", "file_share": "s-1", "gpu": "T4"}
    found = check(**here, base_model="/mount/model-cache/big")
    only(found.blockers, "does not fit", "quantization nf4")
    found = check(**here, base_model="/mount/model-cache/none")
    assert found.ok
    assert any("is unknown" in one and "The deploy checks it again" in one for one in found.warnings)
