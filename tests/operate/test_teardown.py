"""Teardown of the app or of all created resources, through the real SDKs against the double."""

from __future__ import annotations

import json
import shutil

import pytest
from azure.identity import EnvironmentCredential
from azure.mgmt.loganalytics import LogAnalyticsManagementClient
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import (
    TeardownSettings,
    teardown,
)
from nbtoolkit.azure.arm import created_resources
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed, Cancelled, InvalidSettings
from nbtoolkit.progress import Progress
from tests.azure_double.faults import Broken
from tests.support.azure_project import (
    ACCOUNT,
    APP,
    ENVIRONMENT,
    GROUP,
    REGION,
    SHARE,
    AzureProject,
    MakeProject,
)
from tests.support.operated_app import writes
from tests.support.wait import wait_until


def mark_created(project: AzureProject, *parts: str) -> list[str]:
    """Note resources as this workspace's own."""
    known = {
        "app": project.names.app_id,
        "environment": project.environment_id,
        "account": project.names.account_id,
        "share": f"{project.names.account_id}/fileServices/default/shares/{SHARE}",
    }
    ids = [known[part] for part in parts]
    created_resources.remember(project.workspace, ids)
    for id_ in ids:  # as the template marks what it creates
        if (made := project.double.arm.get(id_)) is not None:
            made["tags"] = {"nbtoolkit-workspace": created_resources.workspace_mark(project.workspace)}
    return ids


def test_a_teardown_without_the_name_is_a_plan(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment", "account", "share")
    project.forget_requests()
    plan = teardown(TeardownSettings(scope="all"), workspace=project.workspace)
    assert not plan.done
    assert writes(project) == []
    text = str(plan)
    assert f"would delete  container app {APP}\n" in text
    assert "would delete  storage account tonestore, with all files in it" in text
    assert text.endswith(f"Next: confirm_name={APP!r} deletes it")


def test_a_wrong_name_deletes_nothing(make_project: MakeProject) -> None:
    project = make_project()
    project.forget_requests()
    with pytest.raises(InvalidSettings, match=f"confirm_name is 'tone', and the app is '{APP}'"):
        teardown(TeardownSettings(confirm_name="tone"), workspace=project.workspace)
    assert writes(project) == []


def test_scope_app_deletes_the_app_and_lists_what_remains_with_its_cost(make_project: MakeProject) -> None:
    project = make_project()
    project.deploy("brave")
    (project.share / "models").mkdir()
    gone = teardown(TeardownSettings(confirm_name=APP), workspace=project.workspace)
    assert gone.done
    assert gone.deletes == (project.names.app_id,)
    left = {one.id.rpartition("/")[2]: one.cost for one in gone.left}
    assert set(left) == {ENVIRONMENT, ACCOUNT, SHARE}
    assert "by GB and month" in left[SHARE]
    assert (project.share / "models").is_dir()
    assert (project.share / "nbtoolkit" / "active").is_dir()
    config = json.loads((project.workspace.root / "infra" / "inference.config.json").read_text())
    assert config["ACA_APP_NAME"] == APP
    assert not config.get("ACA_APP_ENDPOINT")

    project.forget_requests()
    again = teardown(TeardownSettings(confirm_name=APP), workspace=project.workspace)
    assert (again.deletes, writes(project)) == ((), [])
    assert {one.id.rpartition("/")[2] for one in again.left} == {ACCOUNT, SHARE}


def test_scope_all_deletes_only_what_this_workspace_created(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=project.workspace)
    assert [one.rpartition("/")[2] for one in gone.deletes] == [APP, ENVIRONMENT]
    assert {one.id.rpartition("/")[2] for one in gone.left} == {ACCOUNT, SHARE}
    assert project.double.arm.get(project.names.account_id)
    assert project.double.arm.get(project.environment_id) is None
    again = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=project.workspace)
    assert (again.done, again.deletes) == (True, ())
    assert created_resources.recall(project.workspace) == ()


def test_an_environment_used_by_another_app_stays_with_its_dependencies(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment", "account", "share")
    apps = Cloud.shared().containerapps(project.double.subscription).container_apps
    container = {"name": "c", "image": "i", "resources": {"cpu": 1, "memory": "2Gi"}}
    properties = {"environmentId": project.environment_id, "template": {"containers": [container]}}
    apps.begin_create_or_update(GROUP, "theirs", {"location": REGION, "properties": properties})
    wait_until(lambda: project.double.arm.get(project.names.app_id.replace(APP, "theirs")))
    project.forget_requests()
    plan = teardown(TeardownSettings(scope="all"), workspace=project.workspace)
    assert plan.deletes == (project.names.app_id,)
    why = {one.id.rpartition("/")[2]: one.reason for one in plan.left}
    assert why[ENVIRONMENT] == "used by app theirs"
    assert why[ACCOUNT] == f"used by environment {ENVIRONMENT}"
    assert f"would keep    environment {ENVIRONMENT}: used by app theirs; costs nothing itself" in str(plan)


def test_an_account_that_another_environment_mounts_stays(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment", "account", "share")
    client = Cloud.shared().containerapps(project.double.subscription)
    body = {"location": REGION, "properties": {"workloadProfiles": []}}
    client.managed_environments.begin_create_or_update(GROUP, "second", body).result()
    file = {"accountName": ACCOUNT, "accountKey": project.account_key, "shareName": SHARE}
    storage = {"properties": {"azureFile": {**file, "accessMode": "ReadWrite"}}}
    client.managed_environments_storages.create_or_update(GROUP, "second", "share", storage)
    plan = teardown(TeardownSettings(scope="all"), workspace=project.workspace)
    assert set(plan.deletes) == {project.names.app_id, project.environment_id}
    assert [one.reason for one in plan.left if one.id == project.names.account_id] == [
        "used by environment second"
    ]


def test_everything_that_remains_is_listed_with_its_cost(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "share")
    properties = {"shareDeleteRetentionPolicy": {"enabled": True, "days": 7}}
    storages = StorageManagementClient(EnvironmentCredential(), project.double.subscription)
    storages.file_services.set_service_properties(GROUP, ACCOUNT, {"properties": properties})
    storages.close()
    logs = LogAnalyticsManagementClient(
        EnvironmentCredential(), project.double.subscription, polling_interval=0.05
    )
    made = logs.workspaces.begin_create_or_update(GROUP, "theirlog", {"location": REGION}).result()
    logs.close()
    to = {"customerId": made.customer_id, "sharedKey": "a2V5"}
    change = {"appLogsConfiguration": {"destination": "log-analytics", "logAnalyticsConfiguration": to}}
    apps = Cloud.shared().containerapps(project.double.subscription)
    apps.managed_environments.begin_update(
        GROUP, ENVIRONMENT, {"location": REGION, "properties": change}
    ).result()
    created_resources.remember_kept(project.workspace, project.names.group_id)
    created_resources.remember_kept(project.workspace, f"{project.environment_id}/workloadProfiles/gpu-t4")
    text = str(teardown(TeardownSettings(scope="all"), workspace=project.workspace))
    assert "would keep    Log Analytics workspace theirlog: by GB of ingested logs" in text
    assert f"would keep    file share {SHARE}: kept for 7 days after it is deleted" in text
    assert f"would keep    machine {ENVIRONMENT}/gpu-t4: added by this workspace" in text
    assert f"would keep    resource group {GROUP}: created by this workspace" in text


def test_deleted_resources_are_forgotten_even_if_a_later_deletion_fails(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment")
    project.double.faults.on("DELETE", f"/managedEnvironments/{ENVIRONMENT}$", Broken(400), times=1000)
    with pytest.raises(AzureFailed):
        teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=project.workspace)
    config = json.loads((project.workspace.root / "infra" / "inference.config.json").read_text())
    assert not config.get("ACA_APP_ENDPOINT")
    assert created_resources.recall(project.workspace) == (project.environment_id,)


def test_an_own_account_is_deleted_with_its_share(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "account", "share", "environment", "app")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=project.workspace)
    assert gone.left == ()
    assert "with all files in it" in str(gone)
    shutil.rmtree(project.workspace.state)
    nothing = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=project.workspace)
    assert str(nothing) == "nothing  no resource exists"


def test_a_cancelled_teardown_is_finished_by_the_next_one(make_project: MakeProject) -> None:
    project = make_project()
    mark_created(project, "app", "environment")

    class Impatient(Progress):
        def check(self) -> None:
            if any(seen.method == "DELETE" for seen in project.double.requests):
                self.cancel()
            super().check()

    settings = TeardownSettings(scope="all", confirm_name=APP)
    project.double.clock.scale = 0.04
    with pytest.raises(Cancelled, match=f"delete the container app {APP}"):
        teardown(settings, workspace=project.workspace, progress=Impatient())
    teardown(settings, workspace=project.workspace)
    assert project.double.arm.get(project.environment_id) is None


def test_a_config_file_without_names_is_an_error_with_a_next_step(make_project: MakeProject) -> None:
    project = make_project()
    (project.workspace.root / "infra" / "inference.config.json").write_text("{}")
    with pytest.raises(InvalidSettings, match="lacks SUBSCRIPTION_ID") as missing:
        teardown(TeardownSettings(), workspace=project.workspace)
    assert "run provision()" in missing.value.next_step
