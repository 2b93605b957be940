"""The deployment template, evaluated by Bicep's snapshot."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.container_runtime.images import RUNTIMES
from nbtoolkit.infra_files import schema
from tests.support.bicep_compiler import BicepCompiler
from tests.support.bicep_types import BicepTypes

SUBSCRIPTION, GROUP = "3ceaaf30-8142-48ea-91d9-3080f9b439fc", "rg-demo"
NAMES = ResourceNames.derive(SUBSCRIPTION, GROUP)
SECRETS = {"nbtoolkit-api-key": "canary-key", "hf-token": "canary-token", "pull": "canary-password"}
APP, ENVIRONMENT = "Microsoft.App/containerApps", "Microsoft.App/managedEnvironments"
STORAGE, WORKSPACE = "Microsoft.Storage/storageAccounts", "Microsoft.OperationalInsights/workspaces"
FILES, SHARE, LINK = f"{STORAGE}/fileServices", f"{STORAGE}/fileServices/shares", f"{ENVIRONMENT}/storages"

EVERYTHING: dict[str, Any] = {
    "defaultCommands": ["cd /mount", "python3 ./serve.py"],
    "maximumInstanceCount": 3,
    "location": "swedencentral",
    "engine": "vllm",
    "quantization": "nf4",
    "baseModel": "/mount/models/phi",
    "containerImage": "contoso.azurecr.io/server:1",
    "registryServer": "contoso.azurecr.io",
    "registryUsername": "me",
    "registryPasswordSecret": "pull",
    "minimumInstanceCount": 1,
    "concurrentRequests": 7,
    "cooldownSeconds": 300,
    "terminationGraceSeconds": 120,
    "environmentVariables": {"LOG": "[debug]", "NBTOOLKIT_PORT": "1"},
    "secrets": SECRETS,
    "secretNames": list(SECRETS),
    "allowedIpRanges": ["203.0.113.0/24", "198.51.100.7/32"],
    "customDomains": [{"name": "chat.contoso.com", "bindingType": "SniEnabled", "certificateId": "/c"}],
    "tags": {"team": "ml"},
    "revisionSuffix": "r-1",
}
VARIANTS = {
    "nothing": {},
    "everything": EVERYTHING,
    "identity": {**EVERYTHING, "registryPasswordSecret": None, "registryIdentity": "/subscriptions/s/id"},
    "own identity": {"secrets": SECRETS, "registryServer": "a.azurecr.io", "registryIdentity": "system"},
    "existing": {
        "secrets": SECRETS,
        "createStorage": False,
        "createWorkspace": False,
        "createEnvironment": False,
        "createEnvironmentStorage": False,
        "workloadProfileName": "theirs",
    },
    **{f"on {gpu}": {"secrets": SECRETS, "gpu": gpu} for gpu in GPU_PROFILES},
}


def snapshot(bicep: BicepCompiler, **parameters: Any) -> dict[str, Any]:
    return bicep.snapshot(load_template(), parameters, subscription=SUBSCRIPTION, resource_group=GROUP)


def predicted(bicep: BicepCompiler, **parameters: Any) -> dict[str, dict[str, Any]]:
    """Return the resources that would be written, by type: there is at most one of each."""
    resources = snapshot(bicep, **parameters)["predictedResources"]
    found = {resource["type"]: resource for resource in resources}
    assert len(found) == len(resources)
    return found


def app(bicep: BicepCompiler, **parameters: Any) -> dict[str, Any]:
    return predicted(bicep, **parameters)[APP]


def container(bicep: BicepCompiler, **parameters: Any) -> dict[str, Any]:
    (only,) = app(bicep, **parameters)["properties"]["template"]["containers"]
    return only


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        yield from itertools.chain.from_iterable(map(strings, value))
    elif isinstance(value, str):
        yield value


@pytest.mark.parametrize("index", range(8))
def test_default_names_equal_those_of_the_ai_toolkit(bicep: BicepCompiler, shared: Path, index: int) -> None:
    entry = json.loads((shared / "azure" / "aitk-default-names.json").read_text(encoding="utf-8"))[index]
    scope = {"subscription": entry["subscription"], "resource_group": entry["resourceGroup"]}
    resources = bicep.snapshot(load_template(), **scope)["predictedResources"]
    assert {resource["type"]: resource["name"] for resource in resources} == entry["names"]


def test_an_unchanged_parameter_file_of_the_ai_toolkit_deploys(bicep: BicepCompiler, shared: Path) -> None:
    path = shared / "aitk" / "Phi-3-mini-4k-instruct" / "infra" / "provision" / "inference.parameters.json"
    file = {key: entry["value"] for key, entry in json.loads(path.read_text())["parameters"].items()}
    resources = predicted(bicep, **file)
    assert resources[APP]["properties"]["template"]["scale"]["maxReplicas"] == file["maximumInstanceCount"]
    (only,) = resources[APP]["properties"]["template"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in only["env"]}
    assert json.loads(environment["NBTOOLKIT_DEFAULT_COMMANDS"]) == file["defaultCommands"]


def test_a_null_parameter_has_its_default(bicep: BicepCompiler) -> None:
    nulls = dict.fromkeys(schema.INFERENCE_PARAMETERS)
    assert snapshot(bicep, **nulls) == snapshot(bicep)


def test_the_outputs_are_the_keys_of_the_config_file(bicep: BicepCompiler) -> None:
    outputs = snapshot(bicep, secrets=SECRETS)["outputs"]
    assert set(outputs) == set(schema.INFERENCE_CONFIG)
    host = outputs.pop("ACA_APP_ENDPOINT")
    assert re.fullmatch(rf"\[reference\('\S+/{NAMES.app}', '[\d-]+'\)\.configuration\.ingress\.fqdn\]", host)
    assert outputs == {
        "SUBSCRIPTION_ID": SUBSCRIPTION,
        "RESOURCE_GROUP_NAME": GROUP,
        "STORAGE_ACCOUNT_NAME": NAMES.storage_account,
        "FILE_SHARE_NAME": NAMES.file_share,
        "ACA_APP_NAME": NAMES.app,
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_simple_references_remain_for_azure_to_evaluate(bicep: BicepCompiler, variant: str) -> None:
    quoted = r"'[^']*'"
    path = rf"(\.\w+|\[\d+\]|\[{quoted}\])+"
    allowed = re.compile(
        rf"\[(reference|listKeys)\({quoted}, {quoted}\){path}\]|\[parameters\({quoted}\){path}\]"
    )
    found = snapshot(bicep, **VARIANTS[variant])
    remaining = [text for text in strings(found) if text.startswith("[") and text != "[debug]"]
    assert remaining
    assert [text for text in remaining if not allowed.fullmatch(text)] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_resources_match_the_bicep_types(bicep: BicepCompiler, shared: Path, variant: str) -> None:
    types = BicepTypes(shared / "azure" / "types" / "bicep")
    for resource in snapshot(bicep, **VARIANTS[variant])["predictedResources"]:
        assert types.problems(resource["type"], resource["apiVersion"], resource) == []


def test_an_api_key_is_generated_by_default(bicep: BicepCompiler) -> None:
    (secret,) = app(bicep)["properties"]["configuration"]["secrets"]
    assert secret == {"name": "nbtoolkit-api-key", "value": "[parameters('secrets')['nbtoolkit-api-key']]"}
    assert load_template()["parameters"]["secrets"]["defaultValue"] == {"nbtoolkit-api-key": "[newGuid()]"}


def test_secrets_appear_once_and_the_registry_secret_is_not_in_the_container(
    bicep: BicepCompiler,
) -> None:
    found = app(bicep, **EVERYTHING)["properties"]
    assert {entry["name"] for entry in found["configuration"]["secrets"]} == set(SECRETS)
    (only,) = found["template"]["containers"]
    container_secrets = {entry["name"]: entry["secretRef"] for entry in only["env"] if "secretRef" in entry}
    assert container_secrets == {"NBTOOLKIT_API_KEY": "nbtoolkit-api-key", "HF_TOKEN": "hf-token"}
    assert "canary" not in json.dumps(snapshot(bicep, **EVERYTHING))
    assert json.dumps(found).count("parameters('secrets')") == len(SECRETS)


@pytest.mark.parametrize(
    ("given", "omitted"),
    [
        ({"createStorage": False}, {STORAGE, FILES, SHARE}),
        ({"createStorage": False, "createFileShare": True}, {STORAGE, FILES}),
        ({"createFileShare": False}, {SHARE}),
        ({"createWorkspace": False}, {WORKSPACE}),
        ({"createEnvironment": False}, {ENVIRONMENT, WORKSPACE}),
        ({"createEnvironmentStorage": False}, {LINK}),
        (VARIANTS["existing"], {STORAGE, FILES, SHARE, WORKSPACE, ENVIRONMENT, LINK}),
    ],
)
def test_existing_resources_are_not_deployed(
    bicep: BicepCompiler, given: dict[str, Any], omitted: set[str]
) -> None:
    everything = {STORAGE, FILES, SHARE, WORKSPACE, ENVIRONMENT, LINK, APP}
    assert set(predicted(bicep, **given)) == everything - omitted


@pytest.mark.parametrize("gpu", GPU_PROFILES)
def test_cpu_memory_and_workload_profile_follow_from_the_gpu_profile(bicep: BicepCompiler, gpu: str) -> None:
    hardware = GPU_PROFILES[gpu]
    found = predicted(bicep, gpu=gpu, maximumInstanceCount=2)
    profiles = found[ENVIRONMENT]["properties"]["workloadProfiles"]
    assert profiles[0] == {"name": "Consumption", "workloadProfileType": "Consumption"}
    assert [entry["workloadProfileType"] for entry in profiles[1:]] == [hardware.profile_type] * hardware.gpus
    counts = {key: value for entry in profiles for key, value in entry.items() if key.endswith("Count")}
    assert counts == ({} if hardware.serverless else {"minimumCount": 0, "maximumCount": 2})
    assert found[APP]["properties"]["workloadProfileName"] == profiles[-1]["name"]
    (only,) = found[APP]["properties"]["template"]["containers"]
    assert only["resources"] == {"cpu": hardware.vcpu, "memory": f"{hardware.memory}Gi"}


@pytest.mark.parametrize("engine", RUNTIMES)
def test_the_image_is_that_of_the_locked_wheels(bicep: BicepCompiler, engine: str) -> None:
    assert container(bicep, engine=engine)["image"] == RUNTIMES[engine].image


def test_probes_request_paths_of_the_server(bicep: BicepCompiler) -> None:
    probes = {probe["type"]: probe for probe in container(bicep)["probes"]}
    requests = {kind: probe["httpGet"] for kind, probe in probes.items()}
    assert requests == {
        "Startup": {"path": "/health", "port": 7861},
        "Liveness": {"path": "/health", "port": 7861},
        "Readiness": {"path": "/ready", "port": 7861},
    }
    window = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in probes.items()}
    assert window["Startup"] >= 60  # Python starts slowly on a busy machine
    assert window["Liveness"] >= 60  # the server takes the port over from the bootstrap


def test_every_parameter_is_applied(bicep: BicepCompiler) -> None:
    found = predicted(bicep, **EVERYTHING)
    properties = found[APP]["properties"]
    ingress, runs = properties["configuration"]["ingress"], properties["template"]
    assert {resource.get("location", "swedencentral") for resource in found.values()} == {"swedencentral"}
    assert [found[kind]["tags"] for kind in (STORAGE, WORKSPACE, ENVIRONMENT, APP)] == [{"team": "ml"}] * 4
    assert ingress["customDomains"] == EVERYTHING["customDomains"]
    assert [entry["ipAddressRange"] for entry in ingress["ipSecurityRestrictions"]] == EVERYTHING[
        "allowedIpRanges"
    ]
    assert {entry["action"] for entry in ingress["ipSecurityRestrictions"]} == {"Allow"}
    assert properties["configuration"]["registries"] == [
        {"server": "contoso.azurecr.io", "username": "me", "passwordSecretRef": "pull", "identity": None}
    ]
    assert (runs["revisionSuffix"], runs["terminationGracePeriodSeconds"]) == ("r-1", 120)
    assert runs["scale"] == {
        "minReplicas": 1,
        "maxReplicas": 3,
        "cooldownPeriod": 300,
        "rules": [{"name": "http", "http": {"metadata": {"concurrentRequests": "7"}}}],
    }
    plain = {entry["name"]: entry["value"] for entry in runs["containers"][0]["env"] if "value" in entry}
    assert json.loads(plain.pop("NBTOOLKIT_DEFAULT_COMMANDS")) == EVERYTHING["defaultCommands"]
    assert plain == {
        "LOG": "[debug]",
        "NBTOOLKIT_BASE_MODEL": "/mount/models/phi",
        "NBTOOLKIT_ENGINE": "vllm",
        "NBTOOLKIT_MOUNT": "/mount",
        "NBTOOLKIT_PORT": "7860",  # the target port of the ingress: fixed
        "NBTOOLKIT_PROBE_PORT": "7861",
        "NBTOOLKIT_QUANTIZATION": "nf4",
    }


def test_insecure_access_is_disabled_and_the_mount_caches_for_one_second(bicep: BicepCompiler) -> None:
    found = predicted(bicep)
    account, properties = found[STORAGE]["properties"], found[APP]["properties"]
    assert account["supportsHttpsTrafficOnly"] is True
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert account["allowBlobPublicAccess"] is False
    assert account["largeFileSharesState"] == "Enabled"
    assert found[FILES]["properties"]["shareDeleteRetentionPolicy"] == {"enabled": True, "days": 7}
    ingress = properties["configuration"]["ingress"]
    assert ingress["allowInsecure"] is False
    assert ingress["stickySessions"] == {"affinity": "sticky"}
    assert properties["configuration"]["activeRevisionsMode"] == "Single"
    (volume,) = properties["template"]["volumes"]
    assert volume["mountOptions"] == "actimeo=1,closetimeo=0,mfsymlinks,nobrl"
    (only,) = properties["template"]["containers"]
    assert only["volumeMounts"] == [{"volumeName": volume["name"], "mountPath": "/mount"}]
