"""The preflight's check of the base model's memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbtoolkit.azure.capacity.memory_fit import GIB
from tests.azure_double import AzureDouble
from tests.support.model_folders import sized_base
from tests.support.preflight_resources import Check, only, put, put_account


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
