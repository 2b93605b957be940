"""Which resources count as created by this workspace after a provision: a teardown deletes only those."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit import TeardownSettings, teardown
from nbtoolkit.azure.arm import created_resources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import (
    NbtoolkitError,
)
from tests.azure_double import SUBSCRIPTION
from tests.azure_double.faults import Broken
from tests.support.provision_project import ProvisionProject
from tests.support.recording_progress import Killed, raise_at


def test_a_resource_that_a_failed_run_only_planned_is_not_its_own(project: ProvisionProject) -> None:
    project.create_group()
    project.double.faults.on("PUT", "/deployments/nbtoolkit-", Broken(400), times=20)
    with pytest.raises(NbtoolkitError):
        project.provision()
    theirs = {"location": "westus3", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}}
    storage: Any = Cloud.shared().storage(SUBSCRIPTION)
    storage.storage_accounts.begin_create("my-rg", project.names.storage_account, theirs).result()
    project.double.faults.clear()
    project.provision()
    account, share = project.names.ids["storage_account"], project.names.ids["file_share"]
    created = created_resources.recall(project.workspace)
    assert account not in created
    assert share in created
    gone = teardown(
        TeardownSettings(scope="all", confirm_name=project.names.app), workspace=project.workspace
    )
    assert account not in gone.deletes
    assert project.double.arm.get(account) is not None
    assert project.double.arm.get(project.names.ids["environment"]) is None


def test_a_teardown_finds_what_a_killed_run_created(project: ProvisionProject) -> None:
    project.create_group()
    with pytest.raises(Killed):
        project.provision(progress=raise_at(f"storage account {project.names.storage_account}: done"))
    assert created_resources.recall(project.workspace) == ()
    project.wait_for_deployment()
    ResourceNames(
        SUBSCRIPTION, "my-rg", project.names.storage_account, project.names.file_share, project.names.app
    ).write(project.workspace)
    planned = teardown(TeardownSettings(scope="all"), workspace=project.workspace)
    assert {project.names.ids[name] for name in ("app", "environment", "storage_account")} <= set(
        planned.deletes
    )
    teardown(TeardownSettings(scope="all", confirm_name=project.names.app), workspace=project.workspace)
    assert created_resources.recall(project.workspace) == ()
    run = created_resources.last_run(project.workspace)
    assert run is not None
    assert run.intended == ()


def test_a_resource_recreated_by_another_user_is_kept(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    del project.body("storage_account")["tags"]["nbtoolkit-workspace"]
    plan_ = teardown(TeardownSettings(scope="all"), workspace=project.workspace)
    assert not {project.names.ids["storage_account"], project.names.ids["file_share"]} & set(plan_.deletes)
    assert "not created by this workspace" in str(plan_)
