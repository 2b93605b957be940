"""Looking after an app: limits, secrets, the account's key, links, the end; real SDKs against the double."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from azure.identity import EnvironmentCredential
from azure.mgmt.loganalytics import LogAnalyticsManagementClient
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import (
    ScaleSettings,
    SecretSettings,
    TeardownSettings,
    deploy,
    links,
    put_secret,
    repair,
    scale,
    teardown,
)
from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm import long_running as changes
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed, Blocked, Cancelled, InvalidSettings, QuotaShort
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.azure_double.faults import Broken, lock_conflict
from tests.support.azure_workspace import ACCOUNT, APP, ENVIRONMENT, GROUP, REGION, SHARE, AzurePlace
from tests.support.recording_progress import Told, until
from tests.support.stub_deploy import server_code, use_stub

A100_QUOTA = "SubscriptionConsumptionNCA100Gpus"
CANARY = "hf_canary-0123456789abcdef"
Make = Callable[..., AzurePlace]


@pytest.fixture(scope="module", autouse=True)
def _stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = use_stub(server_code(tmp_path_factory.mktemp("code")))
    yield
    patch.undo()


@pytest.fixture
def make(azure_double: AzureDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.05)
    return lambda **how: AzurePlace(azure_double, tmp_path / "project", **how)


def sent(place: AzurePlace, says: str) -> None:
    deploy(place.settings(place.adapter(says)), target=place.target)


def body(place: AzurePlace) -> dict[str, Any]:
    """Return the app as the double keeps it."""
    return copy.deepcopy(place.double.apps.app(APP).body["properties"])


def writes(place: AzurePlace) -> list[str]:
    """Return method and last part of what changed something since the last look."""
    found = [f"{line.split()[0]} {line.rpartition('/')[2]}" for line in place.arm_writes()]
    return [line for line in found if line != "POST getAuthtoken"]


def settled(place: AzurePlace) -> bool:
    """Whether the newest revision has taken over."""
    now = place.target.app.get()
    return now.latest_ready_revision == now.latest_revision


# How many


def test_changed_limits_make_one_revision_that_differs_in_nothing_else(make: Make) -> None:
    place = make()
    sent(place, "brave")
    before = body(place)
    place.forget_requests()
    status = scale(ScaleSettings(minimum=1, maximum=3), target=place.target)
    assert writes(place) == [f"PATCH {APP}"]
    after = body(place)
    assert after["template"]["scale"] == {**before["template"]["scale"], "minReplicas": 1, "maxReplicas": 3}
    assert after["template"]["containers"] == before["template"]["containers"]
    assert after["template"]["volumes"] == before["template"]["volumes"]
    assert place.target.app.get().secret_names == ["nbtoolkit-api-key"]
    assert "from 1 to 3" in str(status)
    assert place.says() == "brave"

    place.forget_requests()
    scale(ScaleSettings(minimum=1, maximum=3), target=place.target)
    assert writes(place) == []


def test_an_app_is_stopped_for_good_and_started_again(make: Make) -> None:
    place = make()
    place.forget_requests()
    assert scale(ScaleSettings(running=False), target=place.target).state == "stopped"
    assert scale(ScaleSettings(running=False), target=place.target).state == "stopped"
    assert writes(place) == ["POST stop"]
    assert scale(ScaleSettings(), target=place.target).state in ("asleep", "starting")
    assert writes(place) == ["POST stop", "POST start"]


def test_limits_of_a_stopped_app_change_without_starting_it(make: Make) -> None:
    place = make()
    scale(ScaleSettings(running=False), target=place.target)
    status = scale(ScaleSettings(maximum=2, running=False), target=place.target)
    assert (status.state, body(place)["template"]["scale"]["maxReplicas"]) == ("stopped", 2)
    assert place.double.apps.ingress_requests(APP) == 0


def test_new_limits_need_a_gpu_beside_the_running_one_or_consent_to_downtime(make: Make) -> None:
    place, told = make(gpu=True, least=1), Told()
    until(lambda: place.target.replicas(refresh=True))
    place.double.apps.quota.limits[A100_QUOTA] = 1
    place.forget_requests()
    with pytest.raises(QuotaShort, match="1 of 1 in use, 0 free, needed 1") as short:
        scale(ScaleSettings(minimum=1, maximum=2), target=place.target)
    assert "allow_downtime" in short.value.next_step
    assert writes(place) == []
    allowed = ScaleSettings(minimum=1, maximum=2, allow_downtime=True)
    scale(allowed, target=place.target, progress=told)
    assert writes(place) == ["POST stop", f"PATCH {APP}", "POST start"]
    assert "nothing answers until the new revision is ready" in told


def test_limits_that_contradict_each_other_are_no_settings() -> None:
    with pytest.raises(InvalidSettings, match="minimum 3 is above maximum 2"):
        ScaleSettings(minimum=3, maximum=2)


# Secrets


def test_a_new_secret_keeps_all_others_and_starts_a_revision_that_sees_it(make: Make) -> None:
    place, told = make(), Told()
    sent(place, "brave")
    key = place.target.endpoint().key.get_secret_value()
    put = put_secret(SecretSettings(name="hf-token", value=CANARY), target=place.target, progress=told)
    assert str(put) == "HF_TOKEN was added; a new revision starts with it"
    assert place.target.app.secrets() == {"nbtoolkit-api-key": key, "hf-token": CANARY}
    [variable] = [one for one in body(place)["template"]["containers"][0]["env"] if one["name"] == "HF_TOKEN"]
    assert variable == {"name": "HF_TOKEN", "secretRef": "hf-token"}
    assert place.says() == "brave"
    shown = [repr(put), *told.lines, str(place.target.status()), repr(SecretSettings(value=CANARY))]
    assert CANARY not in "\n".join(shown)
    assert CANARY not in repr(place.double.requests)
    files = [path for path in place.workspace.root.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_a_replaced_secret_restarts_what_runs_and_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make()
    monkeypatch.setenv("HF_TOKEN", CANARY)
    put_secret(SecretSettings(), target=place.target)
    until(lambda: place.target.replicas(refresh=True))
    before = place.target.replicas(refresh=True)
    monkeypatch.setenv("HF_TOKEN", f"{CANARY}-2")
    place.forget_requests()
    put = put_secret(SecretSettings(), target=place.target)
    assert put.replaced
    assert "back in some minutes" in str(put)
    assert writes(place)[0] == f"PATCH {APP}"
    assert set(writes(place)[1:]) == {"POST restart"}  # two where the newer revision is still taking over
    assert place.target.app.secrets()["hf-token"] == f"{CANARY}-2"
    until(lambda: (now := place.target.replicas(refresh=True)) and not set(now) & set(before))


def test_a_sleeping_app_is_not_woken_for_a_replaced_secret(make: Make) -> None:
    place = make()
    put_secret(SecretSettings(value=CANARY), target=place.target)
    until(lambda: settled(place))
    place.double.apps.scale_to_zero(APP)
    place.forget_requests()
    put = put_secret(SecretSettings(value="another"), target=place.target)
    assert str(put) == "HF_TOKEN was replaced; nothing runs, so the next start sees it"
    assert writes(place) == [f"PATCH {APP}"]
    assert place.target.status().state == "asleep"
    assert place.double.apps.ingress_requests(APP) == 0


def test_a_secret_that_needs_a_gpu_which_is_not_there_changes_nothing(make: Make) -> None:
    place = make(gpu=True, least=1)
    until(lambda: place.target.replicas(refresh=True))
    place.double.apps.quota.limits[A100_QUOTA] = 1
    place.forget_requests()
    with pytest.raises(QuotaShort):
        put_secret(SecretSettings(value=CANARY), target=place.target)
    assert writes(place) == []
    put_secret(SecretSettings(value=CANARY, allow_downtime=True), target=place.target)
    assert writes(place) == [f"PATCH {APP}", "POST stop", f"PATCH {APP}", "POST start"]


def test_a_secret_without_a_value_names_where_it_comes_from(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    place.forget_requests()
    with pytest.raises(InvalidSettings, match="The secret HF_TOKEN has no value") as missing:
        put_secret(SecretSettings(), target=place.target)
    assert "type it into the form" in missing.value.next_step
    assert not place.double.requests
    with pytest.raises(InvalidSettings, match="letters, digits and _"):
        SecretSettings(name="my secret!")


# The account's key


def wake(place: AzurePlace) -> None:
    """Send a request that the ingress holds until a replica is ready."""
    threading.Thread(target=partial(httpx.get, f"{place.place.endpoint}/health", timeout=60)).start()


def rotate(place: AzurePlace, number: int = 1) -> None:
    client = StorageManagementClient(EnvironmentCredential(), place.double.subscription)
    client.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": f"key{number}"})
    client.close()


def test_a_rotated_key_is_recognised_and_repaired_by_one_put(make: Make) -> None:
    place, told = make(), Told()
    sent(place, "brave")
    place.double.apps.scale_to_zero(APP)
    rotate(place)
    wake(place)
    until(lambda: place.target._poller.snapshot(fresh=True).live)
    until(lambda: "MountVolume.SetUp failed" in "\n".join(place.target.logs(tail=50)))
    storage = place.double.arm.get(f"{place.environment_id}/storages/share")["properties"]["azureFile"]
    before = dict(storage)

    place.forget_requests()
    done = repair(target=place.target, progress=told)
    assert done.written
    assert "Azure cannot mount the share for tones--" in done.reason
    assert writes(place) == ["PUT share"]
    after = place.double.arm.get(f"{place.environment_id}/storages/share")["properties"]["azureFile"]
    assert {**after, "accountKey": ""} == {**before, "accountKey": ""}
    place.target.endpoint().wait(30)
    assert place.says() == "brave"
    shown = [str(done), repr(done), done._repr_html_(), *told.lines]
    assert after["accountKey"] not in "\n".join(shown)

    place.forget_requests()
    again = repair(target=place.target)
    assert not again.written
    assert str(again).startswith("repaired  nothing: share has the present key of tonestore")
    assert writes(place) == []


def test_a_key_that_is_younger_than_the_one_written_is_seen_while_the_app_sleeps(make: Make) -> None:
    place = make()
    assert "is not known" in repair(target=place.target).reason
    place.double.apps.scale_to_zero(APP)
    rotate(place)
    assert "the key was rotated at 20" in repair(target=place.target).reason
    rotate(place, 2)  # nobody mounts with the second one
    assert not repair(target=place.target).written
    assert place.target.status().state == "asleep"
    note = (place.workspace.state / "azure-mounts.json").read_text()
    keys = StorageManagementClient(EnvironmentCredential(), place.double.subscription).storage_accounts
    assert not [one for one in keys.list_keys(GROUP, ACCOUNT).as_dict()["keys"] if one["value"] in note]


def test_an_account_that_refuses_all_keys_is_named_and_nothing_is_written(make: Make) -> None:
    place = make()
    client = StorageManagementClient(EnvironmentCredential(), place.double.subscription)
    client.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"allowSharedKeyAccess": False}})
    client.close()
    place.forget_requests()
    with pytest.raises(Blocked, match="refuses its keys") as blocked:
        repair(target=place.target)
    assert "Allow storage account key access" in blocked.value.next_step
    assert writes(place) == []


def test_a_status_with_a_failing_mount_names_repair(make: Make) -> None:
    place = make()
    rotate(place)
    place.adapter("brave")
    place.double.apps.scale_to_zero(APP)
    with pytest.raises(Exception, match="cannot mount the share") as failed:
        deploy(place.settings(place.workspace.root / "adapters" / "brave"), target=place.target)
    assert "repair()" in str(failed.value)


# Links


def test_links_lead_to_the_portal_and_to_the_log_with_its_query(make: Make) -> None:
    place = make()
    client = LogAnalyticsManagementClient(
        EnvironmentCredential(), place.double.subscription, polling_interval=0.05
    )
    logs = client.workspaces.begin_create_or_update(GROUP, "ailog", {"location": REGION}).result()
    client.close()
    to = {"customerId": logs.customer_id, "sharedKey": "a2V5"}
    apps = Cloud.shared().containerapps(place.double.subscription)
    change = {"appLogsConfiguration": {"destination": "log-analytics", "logAnalyticsConfiguration": to}}
    apps.managed_environments.begin_update(
        GROUP, ENVIRONMENT, {"location": REGION, "properties": change}
    ).result()
    found = links(place.target)
    assert found["App"] == f"https://portal.azure.com/#resource{place.place.app_id}"
    packed = found["All logs"].partition("/q/")[2].partition("/")[0]
    query = gzip.decompress(base64.b64decode(unquote(unquote(packed)))).decode()
    assert f"where ContainerAppName_s == '{APP}'" in query
    assert found["Chat"] == place.place.endpoint
    assert place.double.apps.ingress_requests(APP) == 0
    html = found._repr_html_()
    assert html.count("<a href=") == len(found.pages) == str(found).count("https://")


# The end


def remember(place: AzurePlace, *parts: str) -> list[str]:
    """Note resources as this workspace's own."""
    known = {
        "app": place.place.app_id,
        "environment": place.environment_id,
        "account": place.place.account_id,
        "share": f"{place.place.account_id}/fileServices/default/shares/{SHARE}",
    }
    ids = [known[part] for part in parts]
    created.remember(place.workspace, ids)
    for id_ in ids:  # as the template marks what it creates
        if (made := place.double.arm.get(id_)) is not None:
            made["tags"] = {"nbtoolkit-workspace": created.workspace_mark(place.workspace)}
    return ids


def test_a_teardown_without_the_name_is_a_plan(make: Make) -> None:
    place = make()
    remember(place, "app", "environment", "account", "share")
    place.forget_requests()
    plan = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert not plan.done
    assert writes(place) == []
    text = str(plan)
    assert f"would delete  container app {APP}\n" in text
    assert "would delete  storage account tonestore, with all that lies in it" in text
    assert text.endswith(f"Next: confirm_name={APP!r} has it done")


def test_a_wrong_name_deletes_nothing(make: Make) -> None:
    place = make()
    place.forget_requests()
    with pytest.raises(InvalidSettings, match=f"confirm_name is 'tone', and the app is '{APP}'"):
        teardown(TeardownSettings(confirm_name="tone"), workspace=place.workspace)
    assert writes(place) == []


def test_the_app_alone_goes_and_what_stays_is_listed_with_its_cost(make: Make) -> None:
    place = make()
    sent(place, "brave")
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


def test_all_is_what_this_workspace_created_and_nothing_of_others(make: Make) -> None:
    place = make()
    remember(place, "app", "environment")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert [one.rpartition("/")[2] for one in gone.deletes] == [APP, ENVIRONMENT]
    assert {one.id.rpartition("/")[2] for one in gone.left} == {ACCOUNT, SHARE}
    assert place.double.arm.get(place.place.account_id)
    assert place.double.arm.get(place.environment_id) is None
    again = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert (again.done, again.deletes) == (True, ())
    assert created.recall(place.workspace) == ()


def test_an_environment_that_others_use_stays_with_what_they_need(make: Make) -> None:
    place = make()
    remember(place, "app", "environment", "account", "share")
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


def test_an_account_that_another_environment_mounts_stays(make: Make) -> None:
    place = make()
    remember(place, "app", "environment", "account", "share")
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


def test_what_a_teardown_leaves_is_named_to_the_last_with_its_cost(make: Make) -> None:
    place = make()
    remember(place, "app", "share")
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
    created.remember_kept(place.workspace, place.place.group_id)
    created.remember_kept(place.workspace, f"{place.environment_id}/workloadProfiles/gpu-t4")
    text = str(teardown(TeardownSettings(scope="all"), workspace=place.workspace))
    assert "would keep    Log Analytics workspace theirlog: by GB of logs" in text
    assert f"would keep    file share {SHARE}: kept for 7 days after it is deleted" in text
    assert f"would keep    machine {ENVIRONMENT}/gpu-t4: added by this workspace" in text
    assert f"would keep    resource group {GROUP}: made by this workspace" in text


def test_what_a_teardown_deleted_is_noted_even_where_it_fails_later(make: Make) -> None:
    place = make()
    remember(place, "app", "environment")
    place.double.faults.on("DELETE", f"/managedEnvironments/{ENVIRONMENT}$", Broken(400), times=1000)
    with pytest.raises(AzureFailed):
        teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    config = json.loads((place.workspace.root / "infra" / "inference.config.json").read_text())
    assert not config.get("ACA_APP_ENDPOINT")
    assert created.recall(place.workspace) == (place.environment_id,)


def test_an_own_account_goes_with_its_share_and_nothing_is_left(make: Make) -> None:
    place = make()
    remember(place, "account", "share", "environment", "app")
    gone = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert gone.left == ()
    assert "with all that lies in it" in str(gone)
    shutil.rmtree(place.workspace.state)
    nothing = teardown(TeardownSettings(scope="all", confirm_name=APP), workspace=place.workspace)
    assert str(nothing) == "nothing  none of it is there"


def test_a_cancelled_teardown_is_finished_by_the_next_one(make: Make) -> None:
    place = make()
    remember(place, "app", "environment")

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


def test_an_azure_that_says_no_is_an_error_with_a_next_step(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make()
    monkeypatch.setattr(changes, "RETRY_TIMEOUT", 0.1)
    place.double.faults.on("PATCH", f"/containerApps/{APP}$", lock_conflict(), times=1000)
    with pytest.raises(AzureFailed, match="Another operation on the same resource") as busy:
        scale(ScaleSettings(maximum=4), target=place.target)
    assert "run the step again" in busy.value.next_step
    (place.workspace.root / "infra" / "inference.config.json").write_text("{}")
    with pytest.raises(InvalidSettings, match="lacks SUBSCRIPTION_ID") as missing:
        teardown(TeardownSettings(), workspace=place.workspace)
    assert "run provision()" in missing.value.next_step
