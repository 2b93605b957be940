"""The double's resource manager with the real SDKs: successful and refused requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import ClientSecretCredential, EnvironmentCredential
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.storage.fileshare import ShareServiceClient

from nbtoolkit.azure.clients import Cloud
from tests.azure_double import SUBSCRIPTION, AzureDouble, Request, Response
from tests.azure_double.faults import Broken, ExpiredToken, Reset, Slow, Throttled
from tests.azure_double.permissions import Role
from tests.azure_double.tokens import CLIENT_ID, TENANT
from tests.support.wait import wait_until

GROUP = "rg-test"
ACCOUNT = {
    "location": "West US 3",
    "kind": "StorageV2",
    "sku": {"name": "Standard_LRS"},
    "properties": {"largeFileSharesState": "Enabled"},
}


@dataclass
class Azure:
    """The double, and the product's clients pointed at it."""

    double: AzureDouble
    cloud: Cloud

    @property
    def storage(self) -> Any:
        return self.cloud.storage(SUBSCRIPTION)

    @property
    def workspaces(self) -> Any:
        return self.cloud.workspaces(SUBSCRIPTION)

    @property
    def resources(self) -> Any:
        return self.cloud.resources(SUBSCRIPTION)

    def account(self, name: str = "acct", **properties: Any) -> Any:
        body = {**ACCOUNT, "properties": {**ACCOUNT["properties"], **properties}}
        return self.storage.storage_accounts.begin_create(GROUP, name, body).result()

    def asked(self, method: str, text: str) -> int:
        return sum(
            seen.method == method and text.lower() in seen.path.lower() for seen in self.double.requests
        )


@pytest.fixture
def azure(azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> Azure:
    monkeypatch.setattr("nbtoolkit.azure.clients.USER_AGENT", "tests")  # these are not calls of the product
    azure_double.arm.groups.add(GROUP)
    return Azure(azure_double, Cloud.shared())


def code(refused: pytest.ExceptionInfo[Any]) -> str:
    return refused.value.error.code


def test_a_wrong_secret_gives_no_token(azure: Azure) -> None:
    wrong = Cloud(ClientSecretCredential(TENANT, CLIENT_ID, "guessed"))
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        list(wrong.subscriptions().subscriptions.list())


def test_subscriptions_regions_and_tenants(azure: Azure) -> None:
    clients = azure.cloud.subscriptions()
    assert [one.subscription_id for one in clients.subscriptions.list()] == [SUBSCRIPTION]
    regions = {one.name: one.display_name for one in clients.subscriptions.list_locations(SUBSCRIPTION)}
    assert regions["westus3"] == "West US 3"
    assert [one.tenant_id for one in clients.tenants.list()] == [TENANT]
    with pytest.raises(ResourceNotFoundError) as refused:
        list(azure.cloud.resources("00000000-0000-0000-0000-00000000dead").resource_groups.list())
    assert code(refused) == "SubscriptionNotFound"
    azure.double.arm.subscriptions.states[SUBSCRIPTION] = "Disabled"
    with pytest.raises(ResourceExistsError) as refused:
        azure.resources.resource_groups.create_or_update("other", {"location": "westus3"})
    assert code(refused) == "ReadOnlyDisabledSubscription"


def test_groups_and_their_resources(azure: Azure) -> None:
    groups = azure.resources.resource_groups
    assert not groups.check_existence("other")
    made = groups.create_or_update("other", {"location": "westus3", "tags": {"a": "b"}})
    assert made.properties.provisioning_state == "Succeeded"
    assert groups.check_existence("OTHER")
    assert {one.name for one in groups.list()} == {GROUP, "other"}
    with pytest.raises(HttpResponseError) as refused:
        groups.create_or_update("other", {"location": "eastus"})
    assert code(refused) == "InvalidResourceGroupLocation"
    azure.account()
    assert [one.type for one in azure.resources.resources.list_by_resource_group(GROUP)] == [
        "Microsoft.Storage/storageAccounts"
    ]
    groups.begin_delete(GROUP).result()
    assert not groups.check_existence(GROUP)
    assert not azure.double.files.accounts


def test_missing_resources_are_reported(azure: Azure) -> None:
    with pytest.raises(ResourceNotFoundError) as refused:
        azure.storage.storage_accounts.get_properties("nowhere", "acct")
    assert code(refused) == "ResourceGroupNotFound"
    with pytest.raises(ResourceNotFoundError) as refused:
        azure.storage.storage_accounts.get_properties(GROUP, "acct")
    assert code(refused) == "ResourceNotFound"
    with pytest.raises(ResourceNotFoundError) as refused:
        azure.storage.file_shares.create(GROUP, "acct", "share", {})
    assert code(refused) == "ParentResourceNotFound"


def test_a_provider_must_be_registered(azure: Azure) -> None:
    providers = azure.resources.providers
    azure.double.arm.providers.states["Microsoft.Storage"] = "NotRegistered"
    assert providers.get("Microsoft.Storage").registration_state == "NotRegistered"
    with pytest.raises(ResourceExistsError) as refused:
        azure.account()
    assert code(refused) == "MissingSubscriptionRegistration"
    assert providers.register("Microsoft.Storage").registration_state == "Registering"
    wait_until(lambda: providers.get("Microsoft.Storage").registration_state == "Registered")
    assert azure.account().name == "acct"


def test_permissions_are_listed_and_enforced(azure: Azure) -> None:
    azure.account()
    client = azure.cloud.permissions(SUBSCRIPTION).permissions
    assert [one.actions for one in client.list_for_resource_group(GROUP)] == [["*"]]
    azure.double.arm.permissions.forbid("Microsoft.Storage/storageAccounts/listKeys/action")
    listed = list(client.list_for_resource(GROUP, "Microsoft.Storage", "", "storageAccounts", "acct"))
    assert listed[0].not_actions == ["Microsoft.Storage/storageAccounts/listKeys/action"]
    with pytest.raises(HttpResponseError, match="listKeys/action") as refused:
        azure.storage.storage_accounts.list_keys(GROUP, "acct")
    assert (refused.value.status_code, code(refused)) == (403, "AuthorizationFailed")
    here = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
    azure.double.arm.permissions.roles = [Role(["*/read"], scope=here)]
    assert azure.storage.storage_accounts.get_properties(GROUP, "acct").name == "acct"
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        azure.resources.providers.register("Microsoft.App")


def test_storage_accounts(azure: Azure) -> None:
    accounts = azure.storage.storage_accounts
    azure.double.arm.storage_accounts.taken.add("wanted")
    assert accounts.check_name_availability({"name": "acct"}).name_available
    assert accounts.check_name_availability({"name": "wanted"}).reason == "AlreadyExists"
    assert accounts.check_name_availability({"name": "No_Way"}).reason == "AccountNameInvalid"
    with pytest.raises(ResourceExistsError) as refused:
        azure.account("wanted")
    assert code(refused) == "StorageAccountAlreadyTaken"
    made = azure.account()
    assert made.provisioning_state == "Succeeded"
    assert azure.asked("GET", "asyncoperations") >= 2
    keys = {key.key_name: key.value for key in accounts.list_keys(GROUP, "acct").keys_property}
    renewed = {
        key.key_name: key.value
        for key in accounts.regenerate_key(GROUP, "acct", {"keyName": "key1"}).keys_property
    }
    assert renewed["key2"] == keys["key2"]
    assert renewed["key1"] != keys["key1"]
    with pytest.raises(ResourceExistsError) as refused:
        accounts.begin_create(GROUP, "acct", {**ACCOUNT, "location": "eastus"})
    assert code(refused) == "InvalidResourceLocation"


def test_a_share_is_a_folder_of_the_data_plane(azure: Azure) -> None:
    azure.account()
    retention = {"properties": {"shareDeleteRetentionPolicy": {"enabled": True, "days": 9}}}
    azure.storage.file_services.set_service_properties(GROUP, "acct", retention)
    kept = azure.storage.file_services.get_service_properties(GROUP, "acct")
    assert kept.share_delete_retention_policy.days == 9
    made = azure.storage.file_shares.create(GROUP, "acct", "share", {"properties": {"shareQuota": 1024}})
    assert made.share_quota == 1024
    assert azure.double.files.folder("acct", "share").is_dir()
    key = azure.storage.storage_accounts.list_keys(GROUP, "acct").keys_property[0].value
    data = ShareServiceClient("https://acct.file.core.windows.net", credential=key)
    data.get_share_client("share").get_file_client("a.txt").upload_file(b"hello")
    assert (azure.double.files.folder("acct", "share") / "a.txt").read_bytes() == b"hello"
    azure.storage.storage_accounts.update(GROUP, "acct", {"properties": {"allowSharedKeyAccess": False}})
    with pytest.raises(HttpResponseError, match="KeyBasedAuthenticationNotPermitted"):
        data.get_share_client("share").get_file_client("a.txt").download_file()
    assert [one.name for one in azure.storage.file_shares.list(GROUP, "acct")] == ["share"]
    azure.storage.file_shares.delete(GROUP, "acct", "share")
    assert not azure.double.files.folder("acct", "share").exists()


def test_workspaces(azure: Azure) -> None:
    workspaces = azure.workspaces.workspaces
    body = {"location": "westus3", "properties": {"sku": {"name": "PerGB2018"}}}
    begun = workspaces.begin_create_or_update(GROUP, "logs", body)
    assert workspaces.get(GROUP, "logs").provisioning_state == "Creating"
    assert begun.result().provisioning_state == "Succeeded"
    assert azure.workspaces.shared_keys.get_shared_keys(GROUP, "logs").primary_shared_key
    workspaces.begin_delete(GROUP, "logs").result()
    with pytest.raises(ResourceNotFoundError):
        workspaces.get(GROUP, "logs")


def test_quotas_have_the_recorded_names(azure: Azure) -> None:
    usages = {one.name.value: one for one in azure.cloud.containerapps(SUBSCRIPTION).usages.list("westus3")}
    assert usages["SubscriptionConsumptionNCA100Gpus"].limit == 2
    assert usages["ConsumptionT4GpusEnvCount"].name.localized_value == "Consumption T 4 Gpus Env Count"


def test_the_sdk_retries_after_throttling(azure: Azure) -> None:
    fault = azure.double.faults.on("GET", "resourcegroups", Throttled(retry_after=100))
    began = time.monotonic()
    assert azure.resources.resource_groups.get(GROUP).name == GROUP
    assert fault.hits == 1
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("kind", [Broken(503), Reset("before"), Reset("answer"), Reset("lost"), Slow(30)])
def test_the_sdk_retries_a_server_error(azure: Azure, kind: Any) -> None:
    fault = azure.double.faults.on("GET", f"resourcegroups/{GROUP}$", kind)
    assert azure.resources.resource_groups.get(GROUP).name == GROUP
    assert fault.hits == 1


def test_an_interrupted_upload_is_retried(azure: Azure) -> None:
    fault = azure.double.faults.on("PUT", "resourcegroups/other", Reset("upload"))
    made = azure.resources.resource_groups.create_or_update("other", {"location": "westus3"})
    assert (made.name, fault.hits) == ("other", 1)


def test_the_response_to_a_completed_request_can_be_lost(azure: Azure) -> None:
    azure.account()
    azure.double.faults.on("POST", "regenerateKey", Reset("lost"), times=9)
    before = list(azure.double.files.accounts["acct"].keys)
    with pytest.raises((ServiceRequestError, ServiceResponseError)):
        azure.storage.storage_accounts.regenerate_key(GROUP, "acct", {"keyName": "key1"}, retry_total=0)
    assert azure.double.files.accounts["acct"].keys[0] != before[0]


def test_an_expired_token_is_refused(azure: Azure) -> None:
    """The SDK fails with an expired token; the product's clients get a new one and retry."""
    plain = ResourceManagementClient(EnvironmentCredential(), SUBSCRIPTION)
    plain.resource_groups.get(GROUP)
    azure.double.faults.on("GET", GROUP, ExpiredToken())
    with pytest.raises(ClientAuthenticationError) as refused:
        plain.resource_groups.get(GROUP)
    assert code(refused) == "ExpiredAuthenticationToken"
    assert "invalid_token" in refused.value.response.headers["www-authenticate"]
    azure.double.tokens.expire_all()
    with pytest.raises(ClientAuthenticationError) as refused:
        plain.resource_groups.get(GROUP)
    assert code(refused) == "ExpiredAuthenticationToken"
    assert azure.resources.resource_groups.get(GROUP).name == GROUP
    plain.close()


def test_bodies_are_streamed_in_both_directions(azure: Azure) -> None:
    """Bodies are streamed in both directions, with and without chunked encoding."""
    sizes: list[int] = []
    go_on = threading.Event()

    def swallow(request: Request) -> Response:
        target = memoryview(bytearray(1 << 20))
        total = 0
        while count := request.body.readinto(target):
            total += count
        sizes.append(total)
        return Response.of({"bytes": total})

    def drip(request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"one\n"
            go_on.wait(5)
            yield b"two\n"

        return Response(200, {}, pieces())

    azure.double.route("swallow.example", swallow)
    azure.double.route("drip.example", drip)
    with httpx.Client() as client:
        assert client.put("https://swallow.example/", content=bytes(48 << 20)).json() == {"bytes": 48 << 20}
        pieces = client.post("https://swallow.example/", content=iter([b"a" * 70_000, b"b"]))
        assert pieces.json() == {"bytes": 70_001}
        with client.stream("GET", "https://drip.example/") as answer:
            lines = answer.iter_lines()
            assert next(lines) == "one"
            go_on.set()
            assert next(lines) == "two"
    with requests.Session() as session:
        assert session.get("https://nowhere.example/").status_code == 502


def test_secrets_of_a_query_are_not_logged(azure: Azure) -> None:
    azure.account()
    polls = [seen for seen in azure.double.requests if "asyncoperations" in seen.path]
    assert polls[0].query["s"] == "***"
