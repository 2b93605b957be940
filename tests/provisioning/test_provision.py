"""Provision through the real SDKs: resources are created once, and a later run keeps what others changed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nbtoolkit import TeardownSettings, teardown
from nbtoolkit.azure.arm import created_resources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import (
    Blocked,
    Cancelled,
    NbtoolkitError,
    NotApplied,
    ProvisionFailed,
)
from tests.azure_double import SUBSCRIPTION
from tests.support.provision_project import FAST, SLOW, ProvisionProject, fail_put
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until


def test_all_resources_are_created_and_the_config_file_is_written(project: ProvisionProject) -> None:
    project.create_group()
    made = project.provision()
    assert made.changed
    assert made.endpoint
    config = json.loads(project.workspace.path("infra/inference.config.json").read_text())
    assert config == {
        "SUBSCRIPTION_ID": SUBSCRIPTION,
        "RESOURCE_GROUP_NAME": "my-rg",
        "STORAGE_ACCOUNT_NAME": project.names.storage_account,
        "FILE_SHARE_NAME": project.names.file_share,
        "ACA_APP_NAME": project.names.app,
        "ACA_APP_ENDPOINT": project.app()["properties"]["configuration"]["ingress"]["fqdn"],
    }
    assert ResourceNames.read(project.workspace).app_id == made.app_id
    assert set(created_resources.recall(project.workspace)) == set(project.names.ids.values())
    marks = {project.body(name)["tags"]["nbtoolkit-workspace"] for name in ("storage_account", "environment")}
    assert marks == {created_resources.workspace_mark(project.workspace)}
    assert "tags" not in project.app()
    lines = "\n".join(project.progress.lines)
    assert "https://portal.azure.com/#view/HubsExtension/DeploymentDetails" in lines
    assert f"storage account {project.names.storage_account}: done" in lines
    assert f"container app {project.names.app}: done" in lines
    assert f"https://{made.endpoint.removeprefix('https://')}" in str(made)


def test_a_second_run_writes_nothing_and_keeps_additions_of_others(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    project.body("environment")["properties"]["workloadProfiles"].append(
        {"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 2}
    )
    for name in ("storage_account", "environment"):
        project.body(name).setdefault("tags", {})["owner"] = "someone"
    project.body("file_share")["properties"]["shareQuota"] = 5000
    domains = [{"name": "chat.example.org", "bindingType": "Disabled"}]
    secrets = [{"name": name, "value": value} for name, value in {**project.secrets(), "extra": "e"}.items()]
    configuration = {"secrets": secrets, "ingress": {"customDomains": domains}}
    patch = {"tags": {"owner": "someone"}, "properties": {"configuration": configuration}}
    project.apps.begin_update("my-rg", project.names.app, patch).result()
    before, since = project.state(app=True), len(project.double.requests)
    again = project.provision(apply=False)
    assert not again.changed
    assert project.writes(since) == []
    assert project.state(app=True) == before
    assert again.endpoint

    shared = {
        name: copy.deepcopy(project.body(name))
        for name in ("storage_account", "file_share", "environment", "log_analytics")
    }
    key = project.secrets()["nbtoolkit-api-key"]
    with pytest.raises(NotApplied, match="maximum replicas: 1 → 2"):
        project.provision(apply=False, max_replicas=2)
    since = len(project.double.requests)
    project.provision(max_replicas=2)
    assert project.writes(since) == [("PUT", f"deployments/nbtoolkit-{project.names.app}")]
    assert {name: project.body(name) for name in shared} == shared
    assert project.secrets() == {"nbtoolkit-api-key": key, "extra": "e"}
    app = project.app()
    assert app["tags"]["owner"] == "someone"
    assert app["properties"]["configuration"]["ingress"]["customDomains"][0]["name"] == "chat.example.org"
    assert app["properties"]["template"]["scale"]["maxReplicas"] == 2


RESTRICTED: dict[str, Any] = {
    "clientCertificateMode": "require",
    "corsPolicy": {"allowedOrigins": ["https://a.example"], "allowedMethods": ["POST"]},
    "additionalPortMappings": [{"external": False, "targetPort": 9000, "exposedPort": 9000}],
    "external": False,
}


def test_ingress_restrictions_of_an_app_are_kept(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    denied = {"name": "bad", "action": "Deny", "ipAddressRange": "198.51.100.0/24"}
    ingress = {**RESTRICTED, "ipSecurityRestrictions": [denied]}
    patch = {"properties": {"configuration": {"ingress": ingress, "maxInactiveRevisions": 7}}}
    project.apps.begin_update("my-rg", project.names.app, patch).result()
    planned = project.plan(max_replicas=2)
    (change,) = [one for one in planned.table.changes if one.verb == "change"]
    paths = [one.path for one in change.differences]
    assert "properties.template.scale.maxReplicas" in paths
    assert not [path for path in paths if "ingress" in path and "ipSecurityRestrictions" not in path]
    project.provision(max_replicas=2)
    configuration = project.app()["properties"]["configuration"]
    kept = configuration["ingress"]
    assert {name: kept[name] for name in RESTRICTED} == RESTRICTED
    (rule,) = kept["ipSecurityRestrictions"]
    assert (rule["action"], rule["ipAddressRange"]) == ("Deny", "198.51.100.0/24")
    assert configuration["maxInactiveRevisions"] == 7
    with pytest.raises(Blocked, match=r"denies 198\.51\.100\.0/24"):
        project.provision(allowed_ip_ranges=["203.0.113.0/24"])


def test_a_missing_gpu_profile_is_added_and_no_other_profile_is_removed(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    profiles = project.body("environment")["properties"]["workloadProfiles"]
    profiles.append({"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 1})
    planned = project.plan(gpu="T4")
    assert planned.added_profile == {"name": "gpu-t4", "workloadProfileType": "Consumption-GPU-NC8as-T4"}
    since = len(project.double.requests)
    project.provision(gpu="T4")
    assert project.writes(since)[0] == ("PATCH", f"managedEnvironments/{project.names.environment}")
    found = project.body("environment")["properties"]["workloadProfiles"]
    assert [one["name"] for one in found] == ["Consumption", "theirs", "gpu-t4"]
    assert project.app()["properties"]["workloadProfileName"] == "gpu-t4"


def test_a_share_is_created_in_an_existing_account(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    account = copy.deepcopy(project.body("storage_account"))
    project.provision(file_share="another", environment_storage="another", app="second")
    assert project.body("storage_account") == account
    assert ResourceNames.read(project.workspace).file_share == "another"


def test_remember_writes_the_chosen_names_to_the_parameter_file(project: ProvisionProject) -> None:
    project.create_group()
    project.provision(app="mine", remember=True)
    file = json.loads(project.workspace.path("infra/provision/inference.parameters.json").read_text())
    assert file["parameters"]["acaAppName"] == {"value": "mine"}
    assert not project.provision(app="", apply=False).changed


def test_secrets_reach_only_the_app(
    project: ProvisionProject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.create_group()
    monkeypatch.setenv("MY_TOKEN", "canary-env")
    asked: dict[str, Any] = {"secrets": ["MY_TOKEN"], "hf_token": "canary-form"}
    with pytest.raises(NotApplied) as caught:
        project.provision(apply=False, **asked)
    made = project.provision(**asked)
    values = project.secrets()
    assert (values["my-token"], values["hf-token"]) == ("canary-env", "canary-form")
    key = values["nbtoolkit-api-key"]
    lines = "\n".join(project.progress.lines)
    shown = [str(caught.value), repr(made), made._repr_html_(), lines, *capsys.readouterr()]
    files = [
        path.read_text(errors="replace")
        for folder in ("infra", ".nbtoolkit")
        for path in (project.workspace.root / folder).rglob("*")
        if path.is_file()
    ]
    asked_for = [f"{one.path} {one.query}" for one in project.double.requests]
    for text in (*shown, *files, *asked_for):
        assert "canary" not in text
        assert key not in text
    assert not project.provision(apply=False, **asked).changed
    monkeypatch.setenv("MY_TOKEN", "canary-new")
    with pytest.raises(NotApplied, match="secret my-token: replaced"):
        project.provision(apply=False, **asked)


def test_a_failure_names_resource_cause_and_next_step_and_the_next_run_resumes(
    project: ProvisionProject,
) -> None:
    project.create_group()
    message = "Exceeded for SubscriptionNCA100Gpus."
    guard = fail_put(project, "Microsoft.App/managedEnvironments", 400, "MaxRegionalQuotaExceeded", message)
    with pytest.raises(ProvisionFailed) as caught:
        project.provision()
    (cause,) = caught.value.causes  # type: ignore[attr-defined]
    assert cause.code == "MaxRegionalQuotaExceeded"
    assert cause.resource == f"Microsoft.App/managedEnvironments {project.names.environment}"
    assert "SubscriptionNCA100Gpus" in caught.value.message
    assert "QuotaMenuBlade" in caught.value.next_step
    assert project.names.storage_account in str(project.double.arm.resources.keys())
    project.double.arm.guards.remove(guard)
    assert project.provision().changed
    assert not project.provision(apply=False).changed


def test_a_replica_without_a_machine_fails_the_provision_with_the_cause(project: ProvisionProject) -> None:
    project.double.apps.limits.deadline = 1
    project.double.apps.hold(project.names.app)
    with pytest.raises(ProvisionFailed, match="Azure has assigned no machine") as failed:
        project.create_group().provision()
    assert "no capacity for one in this region" in failed.value.message
    assert "another region" in failed.value.next_step


def test_a_cancel_cancels_the_deployment_and_names_what_azure_finishes(project: ProvisionProject) -> None:
    project.create_group()
    project.double.clock.scale = SLOW

    def on(line: str) -> None:
        if "being created" in line:
            progress.cancel()

    progress = RecordingProgress(on)
    with pytest.raises(Cancelled) as caught:
        project.provision(progress=progress)
    assert f"The deployment nbtoolkit-{project.names.app} is cancelled" in caught.value.message
    assert "Created resources stay" in caught.value.message
    deployment = project.deployment()
    assert deployment is not None
    wait_until(lambda: deployment["properties"]["provisioningState"] != "Running")
    assert deployment["properties"]["provisioningState"] == "Canceled"
    project.double.clock.scale = FAST
    assert project.provision().changed


def test_values_set_by_scale_or_the_portal_are_kept_unless_chosen(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    rule = {"name": "http", "http": {"metadata": {"concurrentRequests": "8"}}}
    limits = {"minReplicas": 1, "maxReplicas": 3, "cooldownPeriod": 120, "rules": [rule]}
    containers = project.app()["properties"]["template"]["containers"]
    containers[0]["image"] = "mine:1"
    del containers[0]["resources"]["ephemeralStorage"]
    template_ = {"scale": limits, "containers": containers}
    project.apps.begin_update("my-rg", project.names.app, {"properties": {"template": template_}}).result()
    since = len(project.double.requests)
    assert not project.provision().changed
    assert project.writes(since) == []
    with pytest.raises(NotApplied, match="maximum replicas: 3 → 1") as caught:
        project.provision(apply=False, max_replicas=1, min_replicas=0)
    assert "cooldown" not in caught.value.message
    project.provision(tags={"new": "1"}, remember=True)
    template_ = project.app()["properties"]["template"]
    assert template_["scale"]["maxReplicas"] == 3
    assert template_["scale"]["cooldownPeriod"] == 120
    assert template_["containers"][0]["image"] == "mine:1"
    assert not project.provision(tags={"new": "1"}).changed
    file = project.workspace.path("infra/provision/inference.parameters.json").read_text()
    assert json.loads(file)["parameters"]["maximumInstanceCount"]["value"] is None


def test_a_profile_added_meanwhile_by_another_user_is_kept(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    body = project.body("environment")["properties"]["workloadProfiles"]

    def on(line: str) -> None:
        if line.startswith("Adding") and len(body) == 1:
            body.append({"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 1})

    project.provision(gpu="T4", progress=RecordingProgress(on))
    found = project.body("environment")["properties"]["workloadProfiles"]
    assert [one["name"] for one in found] == ["Consumption", "theirs", "gpu-t4"]
    plan_ = teardown(TeardownSettings(), workspace=project.workspace)
    assert "machine" in str(plan_)
    assert "gpu-t4" in str(plan_)


def test_a_profile_of_the_same_type_added_meanwhile_is_used(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    body = project.body("environment")["properties"]["workloadProfiles"]

    def on(line: str) -> None:
        if line.startswith("Adding") and len(body) == 1:
            body.append({"name": "theirs", "workloadProfileType": "Consumption-GPU-NC8as-T4"})

    since = len(project.double.requests)
    project.provision(gpu="T4", progress=RecordingProgress(on))
    assert [method for method, _ in project.writes(since)] == ["PUT"]
    assert project.app()["properties"]["workloadProfileName"] == "theirs"


def test_a_second_run_in_the_same_workspace_is_refused_as_busy(project: ProvisionProject) -> None:
    project.create_group()
    with (
        project.workspace.lock("provision", target="azure"),
        pytest.raises(NbtoolkitError, match="provision"),
    ):
        project.provision()
