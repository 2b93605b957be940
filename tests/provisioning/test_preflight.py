"""What stands in the way of a provision is found before anything is written, with what to do about it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.capacity.memory_fit import GIB, advice, estimate_fit
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed, Blocked, Cancelled, NotSignedIn
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.checks.result import Preflight
from nbtoolkit.provisioning.plan_builder import plan
from nbtoolkit.provisioning.preflight import preflight
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble
from tests.azure_double.permissions import Role
from tests.support.model_folders import sized_base

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg"
A100, T4 = "Consumption-GPU-NC24-A100", "Consumption-GPU-NC8as-T4"
CANARY = "<img src=x onerror=alert(1)>"
MUST_ASK = 9


@pytest.fixture
def azure(azure_double: AzureDouble) -> AzureDouble:
    azure_double.arm.groups.add("rg", "swedencentral")
    return azure_double


Check = Callable[..., Preflight]


@pytest.fixture
def check(azure: AzureDouble, workspace_root: Path) -> Check:
    """Run the preflight with settings that work, but for those that are given."""

    def _check(**values: Any) -> Preflight:
        settings = ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "rg", **values})
        return preflight(settings, workspace=Workspace(workspace_root))

    return _check


def put(azure: AzureDouble, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Make a resource in the group and wait until Azure has done so."""
    call = azure.arm.put(f"{GROUP}/providers/{path}", body)
    if call.operation is not None:
        call.operation.wait()
    made = azure.arm.get(f"{GROUP}/providers/{path}")
    assert made is not None
    return made


def environment(
    azure: AzureDouble, *profiles: str, location: str = "swedencentral", **properties: Any
) -> Any:
    listed = [{"name": "Consumption", "workloadProfileType": "Consumption"}]
    listed += [{"name": f"p{n}", "workloadProfileType": type_} for n, type_ in enumerate(profiles)]
    return put(
        azure,
        "Microsoft.App/managedEnvironments/env",
        {"location": location, "properties": {"workloadProfiles": listed, **properties}},
    )


def account(azure: AzureDouble, location: str = "swedencentral", **properties: Any) -> Any:
    body = {
        "location": location,
        "kind": "StorageV2",
        "sku": {"name": "Standard_LRS"},
        "properties": properties,
    }
    return put(azure, "Microsoft.Storage/storageAccounts/mine", body)


def only(sentences: tuple[str, ...], *words: str) -> str:
    """Return the one sentence there is, which holds these words."""
    assert len(sentences) == 1, sentences
    for word in words:
        assert word in sentences[0]
    return sentences[0]


def test_an_empty_group_is_ready_and_what_is_made_is_said(check: Check, azure: AzureDouble) -> None:
    found = check()
    assert found.ok
    assert found.warnings == ()
    assert found.facts["region"] == "swedencentral"
    assert found.facts["providers"] == "all registered"
    assert found.facts["permissions"] == "all that is needed in rg"
    assert "0 of 2 in use" in found.facts["quota"]
    assert "is created" in found.facts["storage"]
    found.check()


def test_it_reads_only_asks_little_and_wakes_nothing(check: Check, azure: AzureDouble) -> None:
    check()
    asked = [seen for seen in azure.requests if seen.host == "management.azure.com"]
    assert {seen.method for seen in asked} == {"GET", "POST"}
    assert [seen.path.rpartition("/")[2] for seen in asked if seen.method == "POST"] == [
        "checkNameAvailability"
    ]
    assert len(asked) <= 5 + MUST_ASK
    assert {seen.host for seen in azure.requests} <= {
        "management.azure.com",
        "login.microsoftonline.com",
        "prices.azure.com",
    }


def test_an_app_at_zero_is_not_woken(check: Check, azure: AzureDouble) -> None:
    made = environment(azure, A100)
    container = {"name": "inference", "image": "python:3.11", "resources": {"cpu": 24, "memory": "220Gi"}}
    put(
        azure,
        "Microsoft.App/containerApps/app",
        {
            "location": "swedencentral",
            "properties": {
                "environmentId": made["id"],
                "workloadProfileName": "p0",
                "configuration": {"ingress": {"external": True, "targetPort": 7860}},
                "template": {"containers": [container], "scale": {"minReplicas": 0, "maxReplicas": 1}},
            },
        },
    )
    app = Cloud.shared().containerapps(SUBSCRIPTION).container_apps.get("rg", "app").as_dict()
    host = app["properties"]["configuration"]["ingress"]["fqdn"]
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    found = check(environment_name="env", app="app")
    assert found.ok
    assert found.facts["app"] == "app exists"
    assert host not in {seen.host for seen in azure.requests}


def test_missing_actions_are_named_with_whom_to_ask(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.forbid(
        "Microsoft.Storage/storageAccounts/listKeys/action",
        "Microsoft.App/containerApps/revisions/restart/action",
    )
    sentence = only(
        check().blockers,
        "Microsoft.Storage/storageAccounts/listKeys/action",
        "Microsoft.App/containerApps/revisions/restart/action",
        "Contributor",
    )
    assert "containerApps/write" not in sentence


def test_actions_for_what_exists_already_are_not_needed(check: Check, azure: AzureDouble) -> None:
    environment(azure, A100)
    account(azure)
    azure.arm.permissions.forbid(
        "Microsoft.Storage/storageAccounts/write",
        "Microsoft.App/managedEnvironments/write",
        "Microsoft.OperationalInsights/workspaces/write",
        "Microsoft.OperationalInsights/workspaces/sharedKeys/action",
    )
    assert check(environment_name="env", storage_account="mine").blockers == ()
    missing = only(check(gpu="T4").blockers, "Microsoft.App/managedEnvironments/write")
    assert "Microsoft.OperationalInsights/workspaces/sharedKeys/action" in missing


def test_what_is_needed_only_later_is_a_warning(check: Check, azure: AzureDouble) -> None:
    environment(azure, A100)
    account(azure)
    azure.arm.permissions.forbid("Microsoft.App/containerApps/delete")
    found = check(environment_name="env", storage_account="mine")
    assert found.ok
    assert any("teardown() will need it" in one for one in found.warnings)


def test_rights_may_come_from_several_roles(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.roles = [
        Role(actions=["*/read"]),
        Role(actions=["Microsoft.Resources/*", "Microsoft.App/*"], scope=GROUP),
        Role(actions=["Microsoft.Storage/*", "Microsoft.OperationalInsights/*"], scope=GROUP),
        Role(actions=["Microsoft.Storage/checkNameAvailability/action"]),
    ]
    assert check().ok


def test_an_unregistered_provider_blocks_until_registering_is_asked_for(
    check: Check, azure: AzureDouble
) -> None:
    azure.arm.providers.states["Microsoft.App"] = "NotRegistered"
    found = check()
    assert any("az provider register -n Microsoft.App" in sentence for sentence in found.blockers)
    assert found.unregistered == ("Microsoft.App",)
    agreed = check(register_providers=True)
    assert agreed.ok
    assert agreed.facts["providers"] == "Microsoft.App will be registered"
    assert azure.arm.providers.states["Microsoft.App"] == "NotRegistered"


def test_registering_needs_the_right_in_the_subscription(check: Check, azure: AzureDouble) -> None:
    azure.arm.providers.states["Microsoft.App"] = "NotRegistered"
    azure.arm.permissions.roles = [Role(actions=["*/read", "*/action"], not_actions=["*/register/action"])]
    azure.arm.permissions.roles.append(Role(scope=GROUP))
    sentences = check(register_providers=True).blockers
    only(sentences, "in the subscription", "Microsoft.App/register/action", "owners")


@pytest.mark.parametrize(
    ("limits", "values", "words"),
    [
        ({"SubscriptionConsumptionNCA100Gpus": 0}, {}, ("is 0", "portal.azure.com", "Azure Container Apps")),
        ({"SubscriptionConsumptionT4Gpus": 2}, {"gpu": "T4", "max_replicas": 3}, ("3 GPUs", "max_replicas")),
        ({"ConsumptionNCA100GpusEnvCount": 0}, {}, ("0 environments with A100", "portal.azure.com")),
        ({"ManagedEnvironmentCount": 0}, {}, ("all 0 environments", "environment_name")),
        ({"SubscriptionNCA100Gpus": 0}, {"gpu": "dedicated-A100"}, ("SubscriptionNCA100Gpus is 0",)),
    ],
)
def test_a_short_quota_blocks_with_the_page_to_raise_it(
    check: Check, azure: AzureDouble, limits: dict[str, int], values: dict[str, Any], words: tuple[str, ...]
) -> None:
    azure.apps.quota.limits |= limits
    only(check(**values).blockers, *words)


def test_a_trial_without_gpu_needs_no_gpu_quota(check: Check, azure: AzureDouble) -> None:
    azure.apps.quota.limits |= {"SubscriptionConsumptionNCA100Gpus": 0, "ConsumptionNCA100GpusEnvCount": 0}
    found = check(gpu="none")
    assert found.ok
    assert found.facts["quota"] == "no GPU needed"


def test_a_quota_without_room_for_a_second_set_is_a_warning(check: Check, azure: AzureDouble) -> None:
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    found = check()
    assert found.ok
    only(found.warnings, "no room for a second set", "stop the app")


def test_a_region_without_a_quota_of_that_name_is_a_warning(check: Check, azure: AzureDouble) -> None:
    del azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"]
    found = check()
    assert found.ok
    only(found.warnings, "names no quota", "westus3")


def test_an_existing_gpu_environment_does_not_count_as_one_more(check: Check, azure: AzureDouble) -> None:
    environment(azure, A100)
    found = check(environment_name="env")
    assert found.ok
    assert found.room is not None
    assert found.room.environments_free == 0
    only(check(environment_name="other").blockers, "All 1 environments with A100")


def test_a_name_that_somebody_else_has_blocks(check: Check, azure: AzureDouble) -> None:
    azure.arm.storage_accounts.taken.add("wanted")
    only(check(storage_account="wanted").blockers, "wanted is taken", "choose another storage_account")


def test_an_unknown_region_blocks(check: Check) -> None:
    sentences = check(location="atlantis").blockers
    [region] = [sentence for sentence in sentences if "not exist in atlantis" in sentence]
    assert region.startswith("Microsoft.App, Microsoft.")


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"allowSharedKeyAccess": False}, ("refuses its keys", "Allow storage account key access")),
        ({"publicNetworkAccess": "Disabled"}, ("no requests from public networks", "Networking")),
        ({"networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices"}}, ("firewall", "Networking")),
        (
            {"primaryEndpoints": {"file": "https://mine.z01.file.storage.azure.net/"}},
            ("mine.z01.file.storage.azure.net", "standard endpoints"),
        ),
    ],
)
def test_an_account_that_cannot_be_mounted_blocks(
    check: Check, azure: AzureDouble, properties: dict[str, Any], words: tuple[str, ...]
) -> None:
    account(azure, **properties)
    only(check(storage_account="mine").blockers, "mine", *words)


def test_a_firewall_that_lets_the_environment_in_only_warns(check: Check, azure: AzureDouble) -> None:
    subnet = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/apps"
    environment(azure, A100, vnetConfiguration={"infrastructureSubnetId": subnet})
    account(azure, networkAcls={"defaultAction": "Deny", "virtualNetworkRules": [{"id": subnet.upper()}]})
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("lets the environment in" in sentence for sentence in found.warnings)


def test_private_endpoints_beside_a_virtual_network_only_warn(check: Check, azure: AzureDouble) -> None:
    subnet = f"{GROUP}/providers/Microsoft.Network/virtualNetworks/net/subnets/apps"
    environment(azure, A100, vnetConfiguration={"infrastructureSubnetId": subnet, "internal": True})
    made = account(azure, publicNetworkAccess="Disabled")
    blocked = check(storage_account="mine", environment_name="env")
    only(blocked.blockers, "no requests from public networks")
    assert any("is internal" in one and "another environment_name" in one for one in blocked.warnings)
    approved = {"privateLinkServiceConnectionState": {"status": "Approved"}}
    made["properties"]["privateEndpointConnections"] = [{"properties": approved}]
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("private endpoints" in one for one in found.warnings)
    made["properties"] |= {"publicNetworkAccess": "Enabled", "privateEndpointConnections": []}
    made["properties"]["networkAcls"] = {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7"}]}
    found = check(storage_account="mine", environment_name="env")
    assert found.ok
    assert any("lets in some addresses" in one for one in found.warnings)


def test_storage_in_another_region_is_a_warning(check: Check, azure: AzureDouble) -> None:
    account(azure, location="westus3")
    found = check(storage_account="mine")
    assert found.ok
    assert any("in westus3 and the app in swedencentral" in sentence for sentence in found.warnings)


def test_an_account_without_file_shares_blocks(check: Check, azure: AzureDouble) -> None:
    account(azure)["kind"] = "BlockBlobStorage"
    only(check(storage_account="mine").blockers, "BlockBlobStorage", "no shares")


def test_a_share_that_speaks_nfs_blocks(check: Check, azure: AzureDouble) -> None:
    account(azure)
    path = "Microsoft.Storage/storageAccounts/mine/fileServices/default/shares/s-1"
    put(azure, path, {"properties": {"shareQuota": 10}})["properties"]["enabledProtocols"] = "NFS"
    only(check(storage_account="mine", file_share="s-1").blockers, "speaks NFS")


def test_an_environment_that_azure_is_changing_blocks(check: Check, azure: AzureDouble) -> None:
    environment(azure, A100)["properties"]["provisioningState"] = "Updating"
    only(check(environment_name="env").blockers, "state Updating", "wait")


def test_a_disabled_subscription_blocks(check: Check, azure: AzureDouble) -> None:
    azure.arm.subscriptions.states[SUBSCRIPTION] = "Disabled"
    sentences = check(storage_account="mine").blockers
    assert any("is disabled" in sentence and "choose another one" in sentence for sentence in sentences)


def test_what_may_not_be_asked_is_a_warning(check: Check, azure: AzureDouble) -> None:
    azure.arm.permissions.forbid("Microsoft.App/locations/usages/read")
    found = check()
    assert found.ok
    assert found.room is None
    only(found.warnings, "quotas", "That was not checked")


def test_without_a_sign_in_nothing_is_checked(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "wrong")
    with pytest.raises(NotSignedIn, match="AADSTS7000215"):
        check()


def test_azure_out_of_reach_is_an_error_and_not_a_warning(
    check: Check, azure: AzureDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    Cloud.shared().close()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("azure.core.pipeline.policies.RetryPolicy.sleep", lambda *_, **__: None)
    with pytest.raises(AzureFailed, match="no complete response") as caught:
        check()
    assert "proxy" in caught.value.next_step


def test_cancel_is_heard(azure: AzureDouble, workspace_root: Path) -> None:
    progress = Progress()
    progress.cancel()
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="rg")
    with pytest.raises(Cancelled):
        preflight(settings, workspace=Workspace(workspace_root), progress=progress)


# What conflicts with what exists belongs to the plan, which begins with a preflight.


def planned(workspace_root: Path, **values: Any) -> Any:
    settings = ProvisionSettings(**{"subscription": SUBSCRIPTION, "resource_group": "rg", **values})
    return plan(settings, workspace=Workspace(workspace_root))


def test_a_consumption_only_environment_blocks_the_plan(azure: AzureDouble, workspace_root: Path) -> None:
    put(azure, "Microsoft.App/managedEnvironments/env", {"location": "swedencentral", "properties": {}})
    only(planned(workspace_root, environment_name="env").blockers, "Consumption-only", "environment_name")


def test_an_environment_in_another_region_blocks_the_plan(azure: AzureDouble, workspace_root: Path) -> None:
    environment(azure, A100, location="westus3")
    sentences = planned(workspace_root, environment_name="env", location="swedencentral").blockers
    assert any("is in westus3" in sentence for sentence in sentences)


def test_a_foreign_environment_gets_the_profile_that_it_lacks(
    azure: AzureDouble, workspace_root: Path
) -> None:
    environment(azure, T4)
    azure.arm.permissions.forbid("Microsoft.App/managedEnvironments/write")
    blocked = planned(workspace_root, environment_name="env")
    assert blocked.added_profile == {"name": "gpu-a100", "workloadProfileType": A100}
    only(blocked.blockers, "Microsoft.App/managedEnvironments/write")


# Whether a model fits


def test_memory_counts_weights_conversations_and_runtime(tmp_path: Path) -> None:
    base = sized_base(tmp_path / "b8", 4096, 40)  # 8.2 billion weights
    plain, packed = (
        estimate_fit(base, GPU_PROFILES["A100"], "none"),
        estimate_fit(base, GPU_PROFILES["A100"], "nf4"),
    )
    assert plain.weights == base.weight_bytes
    assert packed.weights < 0.3 * plain.weights
    assert plain.token_bytes == 2 * 40 * 8 * 128 * 2
    assert plain.has_headroom
    assert plain.load_seconds == pytest.approx(base.weight_bytes / (60 * 1024**2))
    assert "GPU memory" in str(plain)


@pytest.mark.parametrize(
    ("hidden", "layers", "machine", "quantization", "fits", "help_"),
    [
        (4096, 40, "T4", "none", False, "quantization nf4"),
        (4096, 40, "T4", "nf4", True, ""),
        (8192, 80, "A100", "none", False, "quantization nf4"),
        (8192, 80, "T4", "nf4", False, "GPU A100"),
        (16384, 80, "A100", "nf4", False, "smaller base model"),
        (4096, 40, "none", "none", False, "GPU A100"),
        (576, 30, "none", "none", True, ""),
    ],
)
def test_what_does_not_fit_says_what_would(
    tmp_path: Path, hidden: int, layers: int, machine: str, quantization: Any, fits: bool, help_: str
) -> None:
    base = sized_base(tmp_path / "base", hidden, layers)
    assert estimate_fit(base, GPU_PROFILES[machine], quantization).fits is fits
    assert help_ in advice(base, GPU_PROFILES[machine], quantization)


def test_the_fit_blocks_and_the_loading_time_is_told(check: Check, workspace_root: Path) -> None:
    sized_base(workspace_root / "big", 4096, 40)
    found = check(base_model="big", gpu="T4")
    only(found.blockers, "does not fit", "quantization nf4")
    assert "from the share" in found.facts["loading"]
    fine = check(base_model="big", gpu="T4", quantization="nf4")
    assert fine.ok
    assert fine.fit is not None
    assert fine.fit.required < 14.5 * GIB


def test_a_long_load_from_zero_is_a_warning(check: Check, workspace_root: Path) -> None:
    sized_base(workspace_root / "long", 8192, 32)
    assert any(
        "starts from zero" in text or "start from zero" in text for text in check(base_model="long").warnings
    )
    kept = check(base_model="long", min_replicas=1).warnings
    assert not any("start from zero" in text for text in kept)


def test_a_model_that_is_not_here_is_not_judged(check: Check) -> None:
    assert any("not known" in text for text in check(base_model="org/absent").warnings)
    assert "on the share" in check(base_model="/mount/models/x").facts["base model"]


def test_a_model_on_the_share_is_judged_by_its_headers_there(
    check: Check, azure: AzureDouble, tmp_path: Path
) -> None:
    account(azure)
    path = "Microsoft.Storage/storageAccounts/mine/fileServices/default/shares/s-1"
    put(azure, path, {"properties": {"shareQuota": 10}})
    folder = azure.files.folder("mine", "s-1") / "model-cache" / "big"
    folder.mkdir(parents=True)
    sized_base(folder, 4096, 40)
    here: dict[str, Any] = {"storage_account": "mine", "file_share": "s-1", "gpu": "T4"}
    found = check(**here, base_model="/mount/model-cache/big")
    only(found.blockers, "does not fit", "quantization nf4")
    found = check(**here, base_model="/mount/model-cache/none")
    assert found.ok
    assert any("is not known" in one and "again at deploy" in one for one in found.warnings)


def test_logs_are_asked_for_only_where_a_workspace_is_made(check: Check, azure: AzureDouble) -> None:
    azure.arm.providers.states["Microsoft.OperationalInsights"] = "NotRegistered"
    assert check().unregistered == ("Microsoft.OperationalInsights",)
    environment(azure, A100)
    found = check(environment_name="env")
    assert (found.ok, found.unregistered) == (True, ())


def test_a_price_that_the_list_lacks_is_told_from_a_list_that_is_out_of_reach(
    check: Check, workspace_root: Path
) -> None:
    assert "not reachable" in check().facts["price"]
    kept = {"at": time.time(), "meters": {"Another": {"second": 1, "currency": "USD"}}}
    cache = Workspace(workspace_root).cache
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "prices-swedencentral.json").write_text(json.dumps(kept))
    assert "no price of" in check().facts["price"]


def test_vllm_on_a_t4_is_a_warning(check: Check) -> None:
    assert any("FlashInfer" in text for text in check(engine="vllm", gpu="T4").warnings)
    assert not any("FlashInfer" in text for text in check(engine="vllm").warnings)


# How it is shown


def test_it_prints_well_and_escapes_what_comes_from_outside() -> None:
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="rg")

    found = Preflight(
        settings,
        ExistingResources(settings.resource_names()),
        blockers=(f"settle {CANARY}",),
        warnings=("mind that",),
        facts={"app": CANARY},
    )
    text, html = str(found), found._repr_html_()
    assert text.startswith("1 thing has to be settled first.\n  - settle ")
    assert "Note:\n  - mind that" in text
    assert CANARY not in html
    assert "&lt;img" in html
    with pytest.raises(Blocked) as caught:
        found.check()
    assert caught.value.__dict__["blockers"] == found.blockers
