"""The double's deployments, driven by the real SDK; Microsoft's own engine evaluates the templates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from nbtoolkit.azure.clients import Cloud
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call, Refused
from tests.azure_double.deployment_bodies import camel
from tests.azure_double.templates import compiler
from tests.support.bicep_compiler import NO_COMPILER, find_bicep
from tests.support.wait import wait_until

GROUP = "rg-test"
CANARY = "canary-7f31"

MODULE = """
param name string
@secure()
param secrets object
resource logs 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = { name: 'logs' }
resource environment 'Microsoft.App/managedEnvironments@2026-07-01' = {
  name: name
  location: resourceGroup().location
  properties: {
    appLogsConfiguration: {
      destination: 'log-analytics'
      logAnalyticsConfiguration: {
        customerId: logs.properties.customerId
        sharedKey: logs.listKeys().primarySharedKey
      }
    }
  }
}
resource app 'Microsoft.App/containerApps@2026-07-01' = {
  name: 'app'
  location: resourceGroup().location
  properties: {
    environmentId: environment.id
    configuration: {
      secrets: [for one in items(secrets): { name: one.key, value: one.value }]
      ingress: { external: true, targetPort: 80 }
    }
    template: {
      containers: [
        {
          name: 'main'
          image: 'mcr.microsoft.com/k8se/quickstart:latest'
          resources: { cpu: json('0.25'), memory: '0.5Gi' }
        }
      ]
    }
  }
}
output host string = app.properties.configuration.ingress.fqdn
"""
MAIN = """
param accountName string
@allowed(['A', 'B'])
param letter string = 'A'
param note string?
param withLogs bool = true
@secure()
param secrets object = { key: newGuid() }
resource logs 'Microsoft.OperationalInsights/workspaces@2025-07-01' = if (withLogs) {
  name: 'logs'
  location: resourceGroup().location
  properties: { sku: { name: 'PerGB2018' } }
}
resource account 'Microsoft.Storage/storageAccounts@2026-09-01' = {
  name: accountName
  location: resourceGroup().location
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  resource service 'fileServices' = {
    name: 'default'
    resource share 'shares' = { name: 'share', properties: { shareQuota: 100 } }
  }
}
module apps 'apps.bicep' = {
  params: { name: 'environment-${toLower(letter)}', secrets: secrets }
  dependsOn: [logs]
}
output APP_HOST string = apps.outputs.host
output GROUP string = resourceGroup().name
"""


@dataclass
class Azure:
    """The double, the template above, and the SDK's client of deployments."""

    double: AzureDouble
    cloud: Cloud
    template: dict[str, Any]

    @property
    def sdk(self) -> Any:
        return self.cloud.deployments(SUBSCRIPTION).deployments

    def properties(self, **parameters: Any) -> dict[str, Any]:
        values = {"accountName": "acct", "secrets": {"key": CANARY}, **parameters}
        shaped = {name: {"value": value} for name, value in values.items()}
        return {"properties": {"mode": "Incremental", "template": self.template, "parameters": shaped}}

    def deploy(self, name: str = "first", **parameters: Any) -> Any:
        return self.sdk.begin_create_or_update(GROUP, name, self.properties(**parameters))

    def operations(self, name: str = "first") -> dict[str, Any]:
        listed = self.cloud.deployments(SUBSCRIPTION).deployment_operations.list(GROUP, name)
        found = [one.properties for one in listed]
        return {
            one.target_resource.resource_name if one.target_resource else one.provisioning_operation: one
            for one in found
        }

    def changes(self, **parameters: Any) -> dict[str, Any]:
        told = self.sdk.begin_what_if(GROUP, "plan", self.properties(**parameters)).result()
        assert told.status == "Succeeded"
        return {one.resource_id.split("/providers/")[1]: one for one in told.properties.changes}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if find_bicep() is None:
        pytest.skip(NO_COMPILER)
    folder = tmp_path_factory.mktemp("bicep")
    (folder / "apps.bicep").write_text(MODULE)
    (folder / "main.bicep").write_text(MAIN)
    return compiler().compile(folder / "main.bicep").template


@pytest.fixture
def azure(azure_double: AzureDouble, template: dict[str, Any]) -> Azure:
    azure_double.arm.groups.add(GROUP)
    return Azure(azure_double, Cloud.shared(), template)


def test_a_deployment_creates_the_resources_of_its_template(azure: Azure) -> None:
    """Modules run after their dependencies; references and outputs are evaluated."""
    done = azure.deploy().result().properties
    assert done.provisioning_state == "Succeeded"
    assert done.outputs["group"]["value"] == GROUP
    host = done.outputs["apP_HOST"]["value"]
    apps = azure.cloud.containerapps(SUBSCRIPTION)
    assert apps.container_apps.get(GROUP, "app").configuration.ingress.fqdn == host
    assert {one.value for one in apps.container_apps.list_secrets(GROUP, "app").value} == {CANARY}
    logs = azure.cloud.workspaces(SUBSCRIPTION).workspaces.get(GROUP, "logs")
    told = apps.managed_environments.get(GROUP, "environment-a").app_logs_configuration
    assert told.log_analytics_configuration.customer_id == logs.customer_id
    assert azure.double.files.folder("acct", "share").is_dir()
    operations = azure.operations()
    module = next(name for name in operations if name.startswith("apps-"))
    assert set(operations) == {
        "logs", "acct", "acct/default", "acct/default/share", module, "EvaluateDeploymentOutput",
    }  # fmt: skip
    assert {one.provisioning_state for one in operations.values()} == {"Succeeded"}
    assert set(azure.operations(module)) == {"environment-a", "app"}
    assert {str(one.id).rsplit("/", 1)[1] for one in done.output_resources} >= {"app", "share", "logs"}


def test_secure_values_are_never_returned(azure: Azure) -> None:
    azure.deploy().result()
    told = [one.as_dict() for one in azure.sdk.list_by_resource_group(GROUP)]
    told += [
        one.as_dict() for name in [one["name"] for one in told] for one in azure.operations(name).values()
    ]
    told += [one.as_dict() for one in azure.changes().values()]
    assert CANARY not in json.dumps(told, default=str)
    assert azure.sdk.get(GROUP, "first").properties.parameters["secrets"] == {"type": "SecureObject"}


def test_defaults_are_evaluated_at_each_deployment(azure: Azure) -> None:
    parameters = azure.properties()
    del parameters["properties"]["parameters"]["secrets"]
    keys: set[str] = set()
    for _ in range(2):
        azure.sdk.begin_create_or_update(GROUP, "first", parameters).result()
        secrets = azure.cloud.containerapps(SUBSCRIPTION).container_apps.list_secrets(GROUP, "app").value
        keys.add(secrets[0].value)
    assert len(keys) == 2
    assert all(len(key) == 36 for key in keys)


def test_a_false_condition_skips_a_resource(azure: Azure) -> None:
    """A reference to the missing resource fails and names it."""
    with pytest.raises(HttpResponseError) as failed:
        azure.deploy(withLogs=False).result()
    assert failed.value.error.code == "DeploymentFailed"
    assert "logs" not in azure.operations()
    assert "'Microsoft.OperationalInsights/workspaces/logs' under resource group" in read_through(failed)[-1]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_failure_is_reported_as_nested_errors(azure: Azure, as_text: bool) -> None:
    """Independent resources are created; dependent ones are not started."""
    azure.double.arm.deployments.errors_as_text = as_text
    azure.double.apps.quota.limits["ManagedEnvironmentCount"] = 0
    with pytest.raises(HttpResponseError) as failed:
        azure.deploy().result()
    assert failed.value.error.code == "DeploymentFailed"
    assert "ResourceDeploymentFailure" in read_through(failed)
    assert "cannot have more than 0" in read_through(failed)[-1]
    record = azure.sdk.get(GROUP, "first").properties
    assert record.provisioning_state == "Failed"
    assert record.error.code == "DeploymentFailed"
    operations = azure.operations()
    states = {name: one.provisioning_state for name, one in operations.items()}
    module = next(name for name in states if name.startswith("apps-"))
    assert states[module] == "Failed"
    assert states["acct/default/share"] == "Succeeded"
    assert "EvaluateDeploymentOutput" not in states
    assert set(azure.operations(module)) == {"environment-a"}
    azure.double.apps.quota.limits["ManagedEnvironmentCount"] = 5
    assert azure.deploy().result().properties.provisioning_state == "Succeeded"


def test_cancel_skips_the_remaining_steps(azure: Azure) -> None:
    poller = azure.deploy()
    wait_until(lambda: "logs" in azure.operations())
    azure.sdk.cancel(GROUP, "first")
    with pytest.raises(HttpResponseError):
        poller.result()
    assert azure.sdk.get(GROUP, "first").properties.provisioning_state == "Canceled"
    assert not any(name.startswith("apps-") for name in azure.operations())
    with pytest.raises(ResourceExistsError) as refused:
        azure.sdk.cancel(GROUP, "first")
    assert refused.value.error.code == "DeploymentCannotBeCancelled"


def test_a_running_deployment_is_found_and_cannot_be_started_twice(azure: Azure) -> None:
    """A deployment is cancelled without its poller and cannot be started twice."""
    azure.deploy("lost")
    listed = {one.name: one.properties.provisioning_state for one in azure.sdk.list_by_resource_group(GROUP)}
    assert listed["lost"] in ("Accepted", "Running")
    with pytest.raises(ResourceExistsError) as refused:
        azure.deploy("lost")
    assert refused.value.error.code == "DeploymentActive"
    wait_until(lambda: azure.sdk.get(GROUP, "lost").properties.provisioning_state == "Succeeded")
    with pytest.raises(ResourceNotFoundError) as missing:
        azure.sdk.get(GROUP, "other")
    assert missing.value.error.code == "DeploymentNotFound"


def test_what_if_compares_and_changes_nothing(azure: Azure) -> None:
    planned = azure.changes()
    assert {one.change_type for one in planned.values()} == {"Create"}
    assert not list(azure.cloud.workspaces(SUBSCRIPTION).workspaces.list_by_resource_group(GROUP))
    assert not azure.double.files.accounts
    azure.deploy().result()
    body = {"location": "westus3", "properties": {"sku": {"name": "PerGB2018"}}}
    azure.cloud.workspaces(SUBSCRIPTION).workspaces.begin_create_or_update(GROUP, "foreign", body).result()
    planned = azure.changes()
    kinds = {name: one.change_type for name, one in planned.items()}
    assert kinds["Microsoft.Storage/storageAccounts/acct"] == "NoChange"
    assert kinds["Microsoft.OperationalInsights/workspaces/foreign"] == "Ignore"
    assert kinds["Microsoft.App/containerApps/app"] == "Modify"  # nothing would change: it is noise
    noise = {one.path: one.property_change_type for one in planned["Microsoft.App/containerApps/app"].delta}
    assert noise["properties.configuration.ingress.fqdn"] == "Delete"
    other = azure.changes(letter="B")
    assert other["Microsoft.App/managedEnvironments/environment-b"].change_type == "Create"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"letter": "C"}, "not part of the allowed value"),
        ({"letter": None}, "Expected 'String, Uri'. Actual 'Null'"),
        ({"accountName": 7}, "Actual 'Integer'"),
        ({"unheard": 1}, "'unheard' in the parameters file are not valid"),
    ],
)
def test_invalid_parameters_are_refused(azure: Azure, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        azure.sdk.begin_validate(GROUP, "first", azure.properties(**parameters))
    assert refused.value.error.code == "InvalidTemplate"
    assert words in refused.value.error.message


def test_a_successful_validation_lists_all_resources(azure: Azure) -> None:
    told = azure.sdk.begin_validate(GROUP, "first", azure.properties(note=None)).result().properties
    assert told.template_hash == azure.template["metadata"]["_generator"]["templateHash"]
    assert told.parameters["letter"] == {"type": "String", "value": "A"}
    assert {one.id.rsplit("/", 1)[1] for one in told.validated_resources} >= {"acct", "share", "app", "logs"}
    with pytest.raises(ResourceNotFoundError):
        azure.cloud.storage(SUBSCRIPTION).storage_accounts.get_properties(GROUP, "acct")


@pytest.mark.parametrize("ask", ["begin_validate", "begin_create_or_update"])
def test_a_deployment_is_validated_before_it_starts(azure: Azure, ask: str) -> None:
    azure.double.arm.storage_accounts.taken.add("acct")
    with pytest.raises(HttpResponseError) as refused:
        getattr(azure.sdk, ask)(GROUP, "first", azure.properties())
    assert refused.value.error.code == "InvalidTemplateDeployment"
    assert [one.code for one in refused.value.error.details] == ["StorageAccountAlreadyTaken"]
    azure.double.arm.storage_accounts.taken.clear()
    azure.double.arm.deployments.policies.append(deny_shared_keys)
    with pytest.raises(HttpResponseError) as refused:
        getattr(azure.sdk, ask)(GROUP, "first", azure.properties())
    assert [one.code for one in refused.value.error.details] == ["RequestDisallowedByPolicy"]
    azure.double.arm.permissions.forbid("Microsoft.App/*/write")
    with pytest.raises(
        HttpResponseError, match=r"action 'Microsoft.App/containerApps/write' at scope"
    ) as refused:
        getattr(azure.sdk, ask)(GROUP, "first", azure.properties())
    assert refused.value.status_code == 403
    assert not azure.double.files.accounts


def deny_shared_keys(call: Call) -> None:
    if call.id.type == "Microsoft.Storage/storageAccounts":
        raise Refused(403, "RequestDisallowedByPolicy", "Resource 'acct' was disallowed by policy.")


def test_an_app_needs_permission_to_join_its_environment(azure: Azure) -> None:
    azure.double.arm.permissions.forbid("Microsoft.App/managedEnvironments/join/action")
    with pytest.raises(HttpResponseError) as refused:
        azure.sdk.begin_validate(GROUP, "first", azure.properties())
    assert [one.code for one in refused.value.error.details] == ["LinkedAuthorizationFailed"]
    assert "managedEnvironments/environment-a" in refused.value.error.details[0].message


def test_names_of_outputs_are_changed_as_by_arm() -> None:
    assert camel("ACA_APP_ENDPOINT") == "acA_APP_ENDPOINT"
    assert camel("AZURE_CONTAINER_REGISTRY_NAME") == "azurE_CONTAINER_REGISTRY_NAME"
    assert camel("STRING") == "string"
    assert camel("nullableParam") == "nullableParam"


def read_through(failed: pytest.ExceptionInfo[Any]) -> list[str]:
    """All codes and messages from the outside to the inside, JSON in texts read, too."""
    found: list[str] = []

    def walk(error: Any) -> None:
        if isinstance(error, str) and error.lstrip().startswith("{"):
            error = json.loads(error)
        if isinstance(error, str):
            found.append(error)
        elif isinstance(error, dict):
            for key in ("code", "message", "error", "details"):
                if error.get(key):
                    walk(error[key])
        elif isinstance(error, list):
            for one in error:
                walk(one)

    walk(json.loads(failed.value.response.text())["error"])
    return found
