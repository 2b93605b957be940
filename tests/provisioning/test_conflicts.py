"""Contradictions between settings and existing resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.provisioning import (
    ProvisionSettings,
    plan,
)
from nbtoolkit.provisioning.conflicts import choose_profile, conflicts
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.support.app_json import APP, app_with, environment, existing, settings
from tests.support.preflight_resources import A100, T4, only, put, put_environment


def planned(workspace_root: Path, **values: Any) -> Any:
    settings = ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "rg", **values})
    return plan(settings, workspace=Workspace(workspace_root))


def test_a_consumption_only_environment_blocks_the_plan(azure: AzureDouble, workspace_root: Path) -> None:
    put(azure, "Microsoft.App/managedEnvironments/env", {"location": "swedencentral", "properties": {}})
    only(planned(workspace_root, environment_name="env").blockers, "Consumption only", "environment_name")


def test_an_environment_in_another_region_blocks_the_plan(azure: AzureDouble, workspace_root: Path) -> None:
    put_environment(azure, A100, location="westus3")
    sentences = planned(workspace_root, environment_name="env", location="swedencentral").blockers
    assert any("is in westus3" in sentence for sentence in sentences)


def test_an_existing_environment_gets_the_missing_profile(azure: AzureDouble, workspace_root: Path) -> None:
    put_environment(azure, T4)
    azure.arm.permissions.forbid("Microsoft.App/managedEnvironments/write")
    blocked = planned(workspace_root, environment_name="env")
    assert blocked.added_profile == {"name": "gpu-a100", "workloadProfileType": A100}
    only(blocked.blockers, "Microsoft.App/managedEnvironments/write")


def test_matching_resources_have_no_conflicts() -> None:
    there = existing(
        app=APP,
        environment=environment(("Consumption", "Consumption")),
        environment_storage={
            "properties": {
                "azureFile": {
                    "accountName": names().storage_account,
                    "shareName": names().file_share,
                }
            }
        },
    )
    assert conflicts(settings(registry_identity="/id", location="westus3"), there, [{"name": "extra"}]) == []


HTTP = {"name": "http", "http": {"metadata": {"concurrentRequests": "4"}}}


QUEUE = {"name": "jobs", "azureQueue": {"queueName": "q", "queueLength": 1}}


def names() -> ResourceNames:
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
        (
            {"app": app_with(configuration={"activeRevisionsMode": "Multiple"})},
            {},
            "several active revisions",
        ),
        ({"app": app_with(configuration={"dapr": {"enabled": True}})}, {}, "Dapr"),
        ({"app": app_with(configuration={"activeRevisionsMode": "Labels"})}, {}, "several active revisions"),
        ({"app": app_with(template={"containers": [{}, {}]})}, {}, "more than one container"),
        ({"app": app_with(template={"serviceBinds": [{"name": "redis"}]})}, {}, "service bindings"),
        (
            {"app": app_with(template={"scale": {"rules": [QUEUE]}})},
            {},
            "custom scale rules (jobs)",
        ),
        ({"app": app_with(template={"scale": {"rules": [HTTP, HTTP]}})}, {}, "custom scale rules"),
        (
            {
                "app": app_with(
                    configuration={"ingress": {"traffic": [{"revisionName": "a--1", "weight": 100}]}}
                )
            },
            {},
            "traffic to specific revisions",
        ),
        (
            {"app": app_with(template={"containers": [{"env": [{"name": "A", "secretRef": "b"}]}]})},
            {},
            "variables whose names differ from their secrets (A)",
        ),
    ],
)
def test_contradictions_and_features_that_would_be_lost_are_blockers(
    found: dict[str, Any], values: dict[str, Any], sentence: str
) -> None:
    assert any(sentence in one for one in conflicts(settings(**values), existing(**found), []))


def test_a_secret_from_a_key_vault_would_be_lost() -> None:
    secrets = [{"name": "vaulted", "keyVaultUrl": "https://v"}]
    assert any("key vault (vaulted)" in one for one in conflicts(settings(), existing(app=APP), secrets))


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
