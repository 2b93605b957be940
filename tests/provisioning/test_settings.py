"""The settings of a provision: values from the workspace's files, masked secrets, normalized regions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.errors import (
    InvalidSettings,
)
from nbtoolkit.provisioning.settings import ProvisionSettings, write_saved
from nbtoolkit.provisioning.template_parameters import (
    fingerprinted_settings,
)
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION
from tests.support.app_json import settings


@pytest.fixture
def workspace(tmp_path: Path, shared: Path) -> Workspace:
    project = shared / "aitk" / "Phi-3-mini-4k-instruct"
    shutil.copytree(project, tmp_path / "w", copy_function=shutil.copyfile)
    for path in (tmp_path / "w").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return Workspace(tmp_path / "w")


def write(workspace: Workspace, name: str, **values: Any) -> None:
    path = workspace.path(f"infra/{name}")
    content = json.loads(path.read_text())
    if "parameters" in content:
        content["parameters"] |= {key: {"value": value} for key, value in values.items()}
    else:
        content |= values
    path.write_text(json.dumps(content))


def test_values_of_an_ai_toolkit_project_are_read(workspace: Workspace) -> None:
    found = ProvisionSettings.for_workspace(workspace)
    assert found.max_replicas == 2
    assert found.commands[0] == "cd /mount"
    assert (found.subscription, found.storage_account) == ("", "")


def test_values_of_the_inference_step_overrule_those_of_fine_tuning(
    workspace: Workspace,
) -> None:
    write(
        workspace,
        "finetuning.config.json",
        SUBSCRIPTION_ID=SUBSCRIPTION,
        RESOURCE_GROUP_NAME="tuned",
        STORAGE_ACCOUNT_NAME="tunedstore",
        FILE_SHARE_NAME="tunedshare",
    )
    write(
        workspace, "provision/finetuning.parameters.json", acaEnvironmentName="tunedenv", location="westus3"
    )
    found = ProvisionSettings.for_workspace(workspace)
    assert (found.subscription, found.resource_group) == (SUBSCRIPTION, "tuned")
    assert (found.storage_account, found.environment_name, found.location) == (
        "tunedstore",
        "tunedenv",
        "westus3",
    )
    write(workspace, "provision/inference.parameters.json", storageAccountName="mine", gpu="T4")
    found = ProvisionSettings(file_share="other").completed(workspace)
    assert (found.storage_account, found.file_share, found.gpu) == ("mine", "other", "T4")
    assert found.completed(workspace) == found


def test_written_settings_keep_the_other_content_of_the_parameter_file(workspace: Workspace) -> None:
    assert write_saved(workspace, {"app": "myapp", "allowed_ip_ranges": ("10.0.0.0/8",)})
    assert not write_saved(workspace, {"app": "myapp"})
    parameters = json.loads(workspace.path("infra/provision/inference.parameters.json").read_text())[
        "parameters"
    ]
    assert parameters["acaAppName"] == {"value": "myapp"}
    assert parameters["maximumInstanceCount"] == {"value": 2}
    assert parameters["allowedIpRanges"] == {"value": ["10.0.0.0/8"]}
    assert ProvisionSettings.for_workspace(workspace).allowed_ip_ranges == ("10.0.0.0/8",)


def test_a_workspace_without_files_has_the_defaults(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    assert ProvisionSettings.for_workspace(workspace) == ProvisionSettings()
    write_saved(workspace, {"app": "myapp"})
    assert ProvisionSettings.for_workspace(workspace).app == "myapp"


def test_secrets_are_masked_everywhere() -> None:
    made = settings(
        hf_token="hf_canary", registry_password="pw_canary", registry_server="r", registry_username="u"
    )
    for shown in (
        repr(made),
        str(made),
        made._repr_html_(),
        made.model_dump_json(),
        str(fingerprinted_settings(made)),
    ):
        assert "canary" not in shown


def test_a_region_is_normalized_and_address_ranges_are_validated() -> None:
    assert settings(location="West US 3").location == "westus3"
    assert settings(allowed_ip_ranges=["203.0.113.7"]).allowed_ip_ranges == ("203.0.113.7/32",)
    with pytest.raises(InvalidSettings, match=r"203\.0\.113\.0/24"):
        settings(allowed_ip_ranges=["office"])


def test_default_names_are_those_of_the_ai_toolkit(shared: Path) -> None:
    for one in json.loads((shared / "azure" / "aitk-default-names.json").read_text()):
        names = settings(
            subscription=one["subscription"], resource_group=one["resourceGroup"]
        ).resource_names()
        assert names.storage_account == one["names"]["Microsoft.Storage/storageAccounts"]
        assert names.app == one["names"]["Microsoft.App/containerApps"]
