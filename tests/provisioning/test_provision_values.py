"""What a provision is asked for, what it sends, and what an app that exists keeps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.provisioning import ProvisionSettings, blockers
from nbtoolkit.provisioning import saved_defaults as choices
from nbtoolkit.provisioning import template_parameters as sent
from nbtoolkit.provisioning.conflicts import conflicts
from nbtoolkit.provisioning.existing_app import drift, secret_drift
from nbtoolkit.provisioning.resource_choice import machine_of
from nbtoolkit.workspace import Workspace

SUBSCRIPTION = "f8ac1ec6-1f11-4d4c-9a63-8fb1e2bb2a90"


def settings(**values: Any) -> ProvisionSettings:
    return ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "my-rg", **values})


def existing(**found: Any) -> ExistingResources:
    return ExistingResources(
        settings().resource_names(), **{"group": {"name": "my-rg", "location": "westus3"}, **found}
    )


# Where values come from


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


def test_an_ai_toolkit_project_gives_what_it_has_chosen(workspace: Workspace) -> None:
    found = ProvisionSettings.for_workspace(workspace)
    assert found.max_replicas == 2
    assert found.commands[0] == "cd /mount"
    assert (found.subscription, found.storage_account) == ("", "")


def test_fine_tunings_places_are_the_default_and_the_inference_step_overrules_them(
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


def test_chosen_names_are_remembered_beside_what_the_file_had(workspace: Workspace) -> None:
    assert choices.remember(workspace, {"app": "myapp", "allowed_ip_ranges": ("10.0.0.0/8",)})
    assert not choices.remember(workspace, {"app": "myapp"})
    parameters = json.loads(workspace.path("infra/provision/inference.parameters.json").read_text())[
        "parameters"
    ]
    assert parameters["acaAppName"] == {"value": "myapp"}
    assert parameters["maximumInstanceCount"] == {"value": 2}
    assert parameters["allowedIpRanges"] == {"value": ["10.0.0.0/8"]}
    assert ProvisionSettings.for_workspace(workspace).allowed_ip_ranges == ("10.0.0.0/8",)


def test_a_workspace_without_files_has_plain_defaults(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    assert ProvisionSettings.for_workspace(workspace) == ProvisionSettings()
    choices.remember(workspace, {"app": "myapp"})
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
        str(sent.asked_for(made)),
    ):
        assert "canary" not in shown


def test_a_region_is_taken_as_the_portal_shows_it_and_ranges_are_checked() -> None:
    assert settings(location="West US 3").location == "westus3"
    assert settings(allowed_ip_ranges=["203.0.113.7"]).allowed_ip_ranges == ("203.0.113.7/32",)
    with pytest.raises(InvalidSettings, match=r"203\.0\.113\.0/24"):
        settings(allowed_ip_ranges=["office"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"subscription": ""}, "No subscription is chosen"),
        ({"subscription": "My subscription"}, "its id is wanted"),
        ({"resource_group": ""}, "No resource group is chosen"),
        ({"create_resource_group": True}, "needs a region"),
        ({"storage_account": "My-Account"}, "storage_account is 'My-Account': Azure wants 3 to 24"),
        ({"app": "my--app"}, "app is 'my--app'"),
        ({"min_replicas": 3}, "contradict"),
        ({"gpu": "none", "engine": "vllm"}, "vLLM needs a GPU"),
        ({"gpu": "none", "quantization": "nf4"}, "nf4 needs a GPU"),
        ({"registry_username": "u"}, "set registry_server"),
        ({"registry_server": "r.io", "registry_username": "u"}, "user name and password together"),
        (
            {
                "registry_server": "r.io",
                "registry_username": "u",
                "registry_password": "p",
                "registry_identity": "i",
            },
            "not both",
        ),
        ({"environment_variables": {"HF_TOKEN": "x"}}, "looks like a secret"),
        ({"secrets": ["no-name"]}, "no name of an environment variable"),
    ],
)
def test_what_cannot_work_is_a_blocker_before_anybody_is_asked(values: dict[str, Any], sentence: str) -> None:
    assert any(sentence in found for found in blockers(settings(**values)))
    assert blockers(settings()) == []


# Names and parameters


def test_names_are_those_of_the_ai_toolkit(shared: Path) -> None:
    for one in json.loads((shared / "azure" / "aitk-default-names.json").read_text()):
        names = settings(
            subscription=one["subscription"], resource_group=one["resourceGroup"]
        ).resource_names()
        assert names.storage_account == one["names"]["Microsoft.Storage/storageAccounts"]
        assert names.app == one["names"]["Microsoft.App/containerApps"]


APP: dict[str, Any] = {
    "tags": {"owner": "someone"},
    "identity": {"type": "None"},
    "properties": {
        "environmentId": ProvisionSettings(subscription=SUBSCRIPTION, resource_group="my-rg")
        .resource_names()
        .ids["environment"],
        "workloadProfileName": "theirs",
        "configuration": {
            "activeRevisionsMode": "Single",
            "secrets": [{"name": "nbtoolkit-api-key"}, {"name": "extra"}],
            "ingress": {
                "fqdn": "app.example.io",
                "customDomains": [
                    {"name": "chat.example.org", "bindingType": "SniEnabled", "certificateId": "/c"}
                ],
                "ipSecurityRestrictions": [
                    {"name": "office", "action": "Allow", "ipAddressRange": "203.0.113.0/24"}
                ],
            },
            "registries": [{"server": "r.io", "identity": "/id", "username": "", "passwordSecretRef": ""}],
        },
        "template": {
            "terminationGracePeriodSeconds": 60,
            "containers": [
                {
                    "name": "inference",
                    "image": "img:1",
                    "env": [
                        {"name": "NBTOOLKIT_MOUNT", "value": "/mount"},
                        {"name": "MINE", "value": "1"},
                        {"name": "EXTRA", "secretRef": "extra"},
                    ],
                }
            ],
            "scale": {
                "minReplicas": 0,
                "maxReplicas": 1,
                "cooldownPeriod": 900,
                "rules": [{"name": "http", "http": {"metadata": {"concurrentRequests": "4"}}}],
            },
            "volumes": [{"name": "share"}],
        },
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    """The app with some of its properties' members replaced."""
    app = json.loads(json.dumps(APP))
    for name, value in properties.items():
        app["properties"][name] |= value
    return app


def test_nothing_that_an_app_has_is_missing_from_what_is_sent() -> None:
    there = existing(app=APP)
    secret_names = sent.secret_names_of(settings(hf_token="x", secrets=["MY_TOKEN"]), there)
    assert secret_names == ["nbtoolkit-api-key", "extra", "my-token", "hf-token"]
    values = sent.parameters_of(
        settings(environment_variables={"NEW": "2"}, tags={"t": "1"}), there, "p", secret_names
    )
    assert values["environmentVariables"] == {"MINE": "1", "NEW": "2"}
    assert values["tags"] == {"owner": "someone", "t": "1"}
    assert values["customDomains"] == [
        {"name": "chat.example.org", "bindingType": "SniEnabled", "certificateId": "/c"}
    ]
    assert values["allowedIpRanges"] == ["203.0.113.0/24"]
    assert (values["registryServer"], values["registryIdentity"]) == ("r.io", "/id")
    assert "registryUsername" not in values


def test_secrets_are_kept_replaced_and_added_and_the_key_is_made_once() -> None:
    first = sent.secret_values(settings(), {}, {})
    assert len(first["nbtoolkit-api-key"]) >= 32
    again = sent.secret_values(
        settings(secrets=["EXTRA", "NEW"]), {**first, "extra": "old"}, {"EXTRA": "e", "NEW": "n"}
    )
    assert again == {**first, "extra": "e", "new": "n"}
    assert secret_drift({**first, "extra": "old"}, again) == ["secret extra: replaced", "secret new: added"]


def test_a_secret_without_a_value_anywhere_is_a_blocker() -> None:
    (sentence,) = sent.unset_secrets(settings(secrets=["EXTRA", "NEW"]), existing(app=APP), {})
    assert sentence.startswith("NEW is to become a secret")


def test_only_what_is_missing_is_created() -> None:
    names = settings().resource_names()
    nothing = sent.parameters_of(settings(), existing(), "p", ["k"])
    creates = (
        "createStorage",
        "createFileShare",
        "createEnvironment",
        "createWorkspace",
        "createEnvironmentStorage",
    )
    assert all(nothing[name] for name in creates)
    there = existing(storage_account={}, environment={"location": "westus3"}, environment_storage={})
    some = sent.parameters_of(settings(), there, "p", ["k"])
    assert [some[name] for name in creates] == [False, True, False, False, False]
    assert existing(storage_account={}).to_create[0] == names.ids["file_share"]


# Machines


def environment(*profiles: tuple[str, str]) -> dict[str, Any]:
    listed = [{"name": name, "workloadProfileType": kind} for name, kind in profiles]
    return {"location": "West US 3", "properties": {"workloadProfiles": listed or None}}


def test_a_profile_is_found_by_its_type_and_a_missing_one_is_added_under_a_free_name() -> None:
    gpu = "Consumption-GPU-NC24-A100"
    there = existing(environment=environment(("Consumption", "Consumption"), ("theirs", gpu)))
    assert machine_of(settings(), there, "gpu-a100").profile == "theirs"
    there = existing(environment=environment(("Consumption", "Consumption"), ("gpu-a100", "D4")))
    found = machine_of(settings(), there, "gpu-a100")
    assert found.added == {"name": "gpu-a100-2", "workloadProfileType": gpu}
    assert machine_of(settings(gpu="none"), there, "Consumption").profile == "Consumption"
    assert machine_of(settings(), existing(), "gpu-a100").added is None


@pytest.mark.parametrize(
    ("values", "profiles", "sentence"),
    [
        ({}, (), "Consumption-only"),
        ({"gpu": "dedicated-A100"}, (("Consumption", "Consumption"),), "only with a new environment"),
        ({"workload_profile": "x"}, (("Consumption", "Consumption"),), "has no profile 'x'"),
    ],
)
def test_an_environment_that_cannot_take_the_machine_blocks(
    values: dict[str, Any], profiles: Any, sentence: str
) -> None:
    found = machine_of(settings(**values), existing(environment=environment(*profiles)), "gpu-a100")
    assert sentence in (found.blocker or "")


# What stands in the way


def test_what_goes_together_has_no_conflicts() -> None:
    there = existing(
        app=APP,
        environment=environment(("Consumption", "Consumption")),
        environment_storage={
            "properties": {
                "azureFile": {
                    "accountName": there_names().storage_account,
                    "shareName": there_names().file_share,
                }
            }
        },
    )
    assert conflicts(settings(registry_identity="/id", location="westus3"), there, [{"name": "extra"}]) == []


HTTP = {"name": "http", "http": {"metadata": {"concurrentRequests": "4"}}}
QUEUE = {"name": "jobs", "azureQueue": {"queueName": "q", "queueLength": 1}}


def there_names() -> ResourceNames:
    return settings().resource_names()


@pytest.mark.parametrize(
    ("found", "values", "sentence"),
    [
        ({"group": None}, {}, "There is no resource group my-rg"),
        ({"environment": environment()}, {"location": "swedencentral"}, "is in westus3"),
        (
            {"environment_storage": {"properties": {"azureFile": {"accountName": "a", "shareName": "b"}}}},
            {},
            "another share (a/b)",
        ),
        ({"app": {"properties": {"environmentId": "/x/other"}}}, {}, "another environment (other)"),
        ({"app": {**APP, "identity": {"type": "SystemAssigned"}}}, {}, "a managed identity"),
        ({"app": changed(configuration={"activeRevisionsMode": "Multiple"})}, {}, "several active revisions"),
        ({"app": changed(configuration={"dapr": {"enabled": True}})}, {}, "Dapr"),
        ({"app": changed(configuration={"activeRevisionsMode": "Labels"})}, {}, "several active revisions"),
        ({"app": changed(template={"containers": [{}, {}]})}, {}, "more than one container"),
        ({"app": changed(template={"serviceBinds": [{"name": "redis"}]})}, {}, "service bindings"),
        ({"app": changed(template={"scale": {"rules": [QUEUE]}})}, {}, "custom scale rules (jobs)"),
        ({"app": changed(template={"scale": {"rules": [HTTP, HTTP]}})}, {}, "custom scale rules"),
        (
            {
                "app": changed(
                    configuration={"ingress": {"traffic": [{"revisionName": "a--1", "weight": 100}]}}
                )
            },
            {},
            "traffic to specific revisions",
        ),
        (
            {"app": changed(template={"containers": [{"env": [{"name": "A", "secretRef": "b"}]}]})},
            {},
            "variables whose names differ from their secrets (A)",
        ),
    ],
)
def test_what_would_be_lost_or_contradicts_is_a_blocker(
    found: dict[str, Any], values: dict[str, Any], sentence: str
) -> None:
    assert any(sentence in one for one in conflicts(settings(**values), existing(**found), []))


def test_a_secret_out_of_a_key_vault_would_be_lost() -> None:
    secrets = [{"name": "vaulted", "keyVaultUrl": "https://v"}]
    assert any("key vault (vaulted)" in one for one in conflicts(settings(), existing(app=APP), secrets))


def test_a_rule_without_a_number_of_requests_counts_as_azures_default() -> None:
    for http in ({}, {"metadata": {}}, {"metadata": {"concurrentRequests": "10"}}):
        app = AppState(changed(template={"scale": {"rules": [{"name": "http", "http": http}]}}))
        assert app.scale["concurrent_requests"] == 10


def test_drift_names_what_differs_and_not_what_others_added() -> None:
    app = AppState(APP)
    assert drift(settings(), app, "theirs", "img:1") == []
    found = drift(settings(max_replicas=3, environment_variables={"MINE": "2"}), app, "theirs", "img:2")
    assert found == ["image: img:1 → img:2", "replicas, at most: 1 → 3", "variable MINE: 1 → 2"]
