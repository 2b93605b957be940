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
from tests.support.azure_workspace import ACCOUNT, APP, ENVIRONMENT, GROUP, REGION, SHARE, AzurePlace
from tests.support.operated_app import (
    MakePlace,
    deploy_adapter,
    writes,
)
from tests.support.recording_progress import until


def mark_created(place: AzurePlace, *parts: str) -> list[str]:
    """Note resources as this workspace's own."""
    known = {
        "app": place.place.app_id,
        "environment": place.environment_id,
        "account": place.place.account_id,
        "share": f"{place.place.account_id}/fileServices/default/shares/{SHARE}",
    }
    ids = [known[part] for part in parts]
    created_resources.remember(place.workspace, ids)
    for id_ in ids:  # as the template marks what it creates
        if (made := place.double.arm.get(id_)) is not None:
            made["tags"] = {"nbtoolkit-workspace": created_resources.workspace_mark(place.workspace)}
    return ids


def test_a_teardown_without_the_name_is_a_plan(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment", "account", "share")
    place.forget_requests()
    plan = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert not plan.done
    assert writes(place) == []
    text = str(plan)
    assert f"would delete  container app {APP}\n" in text
    assert "would delete  storage account tonestore, with all files in it" in text
    assert text.endswith(f"Next: confirm_name={APP!r} deletes it")


def test_a_wrong_name_deletes_nothing(make_place: MakePlace) -> None:
    place = make_place()
    place.forget_requests()
    with pytest.raises(InvalidSettings, match=f"confirm_name is 'tone', and the app is '{APP}'"):
        teardown(TeardownSettings(confirm_name="tone"), workspace=place.workspace)
    assert writes(place) == []


def test_scope_app_deletes_the_app_and_lists_what_remains_with_its_cost(make_place: MakePlace) -> None:
    place = make_place()
    deploy_adapter(place, "brave")
    (place.share / "models").mkdir()
    gone = teardown(TeardownSettings(confirm_name=APP), workspace=place.workspace)
    assert gone.done
    assert gone.deletes == (place.place.app_id,)
    left = {one.id.rpartition("/")[2]: one.cost for one in gone.left}
    assert set(left) == {ENVIRONMENT, ACCOUNT, SHARE}
    assert "by GB and month" in left[SHARE]
    assert (place.share / "models").is_dir()
    assert (place.share / "nbtoolkit" / "active").is_dir()
    config = json.loads((place.workspace.root / "infra" / "inference.config.json").read_text())
    assert config["ACA_APP_NAME"] == APP
    assert not config.get("ACA_APP_ENDPOINT")

    place.forget_requests()
    again = teardown(TeardownSettings(confirm_name=APP), workspace=place.workspace)
    assert (again.deletes, writes(place)) == ((), [])
    assert {one.id.rpartition("/")[2] for one in again.left} == {ACCOUNT, SHARE}


def test_scope_all_deletes_only_what_this_workspace_created(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert [one.rpartition("/")[2] for one in gone.deletes] == [APP, ENVIRONMENT]
    assert {one.id.rpartition("/")[2] for one in gone.left} == {ACCOUNT, SHARE}
    assert place.double.arm.get(place.place.account_id)
    assert place.double.arm.get(place.environment_id) is None
    again = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert (again.done, again.deletes) == (True, ())
    assert created_resources.recall(place.workspace) == ()


def test_an_environment_used_by_another_app_stays_with_its_dependencies(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment", "account", "share")
    apps = Cloud.shared().containerapps(place.double.subscription).container_apps
    container = {"name": "c", "image": "i", "resources": {"cpu": 1, "memory": "2Gi"}}
    properties = {"environmentId": place.environment_id, "template": {"containers": [container]}}
    apps.begin_create_or_update(GROUP, "theirs", {"location": REGION, "properties": properties})
    until(lambda: place.double.arm.get(place.place.app_id.replace(APP, "theirs")))
    place.forget_requests()
    plan = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert plan.deletes == (place.place.app_id,)
    why = {one.id.rpartition("/")[2]: one.reason for one in plan.left}
    assert why[ENVIRONMENT] == "used by app theirs"
    assert why[ACCOUNT] == f"used by environment {ENVIRONMENT}"
    assert f"would keep    environment {ENVIRONMENT}: used by app theirs; costs nothing itself" in str(plan)


def test_an_account_that_another_environment_mounts_stays(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment", "account", "share")
    client = Cloud.shared().containerapps(place.double.subscription)
    body = {"location": REGION, "properties": {"workloadProfiles": []}}
    client.managed_environments.begin_create_or_update(GROUP, "second", body).result()
    file = {"accountName": ACCOUNT, "accountKey": place.account_key, "shareName": SHARE}
    storage = {"properties": {"azureFile": {**file, "accessMode": "ReadWrite"}}}
    client.managed_environments_storages.create_or_update(GROUP, "second", "share", storage)
    plan = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert set(plan.deletes) == {place.place.app_id, place.environment_id}
    assert [one.reason for one in plan.left if one.id == place.place.account_id] == [
        "used by environment second"
    ]


def test_everything_that_remains_is_listed_with_its_cost(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "share")
    properties = {"shareDeleteRetentionPolicy": {"enabled": True, "days": 7}}
    storages = StorageManagementClient(EnvironmentCredential(), place.double.subscription)
    storages.file_services.set_service_properties(GROUP, ACCOUNT, {"properties": properties})
    storages.close()
    logs = LogAnalyticsManagementClient(
        EnvironmentCredential(), place.double.subscription, polling_interval=0.05
    )
    made = logs.workspaces.begin_create_or_update(GROUP, "theirlog", {"location": REGION}).result()
    logs.close()
    to = {"customerId": made.customer_id, "sharedKey": "a2V5"}
    change = {"appLogsConfiguration": {"destination": "log-analytics", "logAnalyticsConfiguration": to}}
    apps = Cloud.shared().containerapps(place.double.subscription)
    apps.managed_environments.begin_update(
        GROUP, ENVIRONMENT, {"location": REGION, "properties": change}
    ).result()
    created_resources.remember_kept(place.workspace, place.place.group_id)
    created_resources.remember_kept(place.workspace, f"{place.environment_id}/workloadProfiles/gpu-t4")
    text = str(teardown(TeardownSettings(scope="all"), workspace=place.workspace))
    assert "would keep    Log Analytics workspace theirlog: by GB of ingested logs" in text
    assert f"would keep    file share {SHARE}: kept for 7 days after it is deleted" in text
    assert f"would keep    machine {ENVIRONMENT}/gpu-t4: added by this workspace" in text
    assert f"would keep    resource group {GROUP}: created by this workspace" in text


def test_deleted_resources_are_forgotten_even_if_a_later_deletion_fails(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment")
    place.double.faults.on("DELETE", f"/managedEnvironments/{ENVIRONMENT}$", Broken(400), times=1000)
    with pytest.raises(AzureFailed):
        teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    config = json.loads((place.workspace.root / "infra" / "inference.config.json").read_text())
    assert not config.get("ACA_APP_ENDPOINT")
    assert created_resources.recall(place.workspace) == (place.environment_id,)


def test_an_own_account_is_deleted_with_its_share(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "account", "share", "environment", "app")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert gone.left == ()
    assert "with all files in it" in str(gone)
    shutil.rmtree(place.workspace.state)
    nothing = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert str(nothing) == "nothing  no resource exists"


def test_a_cancelled_teardown_is_finished_by_the_next_one(make_place: MakePlace) -> None:
    place = make_place()
    mark_created(place, "app", "environment")

    class Impatient(Progress):
        def check(self) -> None:
            if any(seen.method == "DELETE" for seen in place.double.requests):
                self.cancel()
            super().check()

    settings = TeardownSettings(scope="all", confirm_name=APP)
    place.double.clock.scale = 0.04
    with pytest.raises(Cancelled, match=f"delete the container app {APP}"):
        teardown(settings, workspace=place.workspace, progress=Impatient())
    teardown(settings, workspace=place.workspace)
    assert place.double.arm.get(place.environment_id) is None


def test_a_config_file_without_names_is_an_error_with_a_next_step(make_place: MakePlace) -> None:
    place = make_place()
    (place.workspace.root / "infra" / "inference.config.json").write_text("{}")
    with pytest.raises(InvalidSettings, match="lacks SUBSCRIPTION_ID") as missing:
        teardown(TeardownSettings(), workspace=place.workspace)
    assert "run provision()" in missing.value.next_step
