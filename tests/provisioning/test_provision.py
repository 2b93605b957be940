"""Provision through the real SDKs: planned first, made once, kept as others left it, taken up again."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import TeardownSettings, teardown
from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import Blocked, Cancelled, NbtoolkitError, NotApplied, ProvisionFailed
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import (
    Provision,
    ProvisionPlan,
    ProvisionSettings,
    plan,
    provision,
)
from nbtoolkit.provisioning import (
    rollout_capacity as beside,
)
from nbtoolkit.provisioning.plan_builder import deployment_of
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble, Call, Refused
from tests.azure_double.faults import Broken, Reset
from tests.support.recording_progress import until

FAST, SLOW = 0.002, 0.03
"""Real seconds for one of Azure's: to get through, and to step in between."""
WRITES = ("PUT", "PATCH", "DELETE")


class Lines(Progress):
    """Keep what was told; call ``on`` with each line."""

    def __init__(self, on: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._on = on

    def show(self, text: str) -> None:
        self.lines.append(text)
        self._on(text)


class Place:
    """A workspace, the double, and the settings of a cheap trial."""

    def __init__(self, double: AzureDouble, root: Path) -> None:
        self.double = double
        self.workspace = Workspace(root)
        self.progress = Lines()

    def settings(self, **values: Any) -> ProvisionSettings:
        return ProvisionSettings(
            **{"subscription": SUBSCRIPTION, "resource_group": "my-rg", "gpu": "none", **values}
        )

    @property
    def names(self) -> ResourceNames:
        return self.settings().resource_names()

    def group(self, location: str = "westus3") -> Place:
        groups = Cloud.shared().resources(SUBSCRIPTION).resource_groups
        groups.create_or_update("my-rg", {"location": location})
        return self

    def run(self, *, apply: bool = True, progress: Progress | None = None, **values: Any) -> Provision:
        self.progress = Lines()
        return provision(
            self.settings(**values),
            apply=apply,
            workspace=self.workspace,
            progress=progress or self.progress,
        )

    def plan(self, **values: Any) -> ProvisionPlan:
        return plan(self.settings(**values), workspace=self.workspace)

    def body(self, name: str) -> dict[str, Any]:
        """A resource as the double keeps it."""
        found = self.double.arm.get(self.names.ids[name])
        assert found is not None, name
        return found

    @property
    def apps(self) -> Any:
        return Cloud.shared().containerapps(SUBSCRIPTION).container_apps

    def app(self) -> dict[str, Any]:
        """The app as Azure shows it."""
        return self.apps.get("my-rg", self.names.app).as_dict()

    def state(self, *, app: bool = False) -> str:
        """All that Azure keeps, as one text."""
        shown = [self.app(), self.secrets()] if app else []
        return json.dumps([self.double.arm.resources, *shown], sort_keys=True, default=str)

    def deployment(self) -> dict[str, Any] | None:
        name = f"nbtoolkit-{self.names.app}"
        return self.double.arm.get(f"{self.names.group_id}/providers/Microsoft.Resources/deployments/{name}")

    def wait_for_deployment(self) -> None:
        """Wait until the double has ended the deployment, quickly from here on."""
        self.double.clock.scale = FAST
        deadline = time.monotonic() + 20
        while (self.deployment() or {"properties": {}})["properties"].get("provisioningState") == "Running":
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def writes(self, since: int = 0) -> list[tuple[str, str]]:
        """What was written, as method and the last two parts of the path."""
        seen = self.double.requests[since:]
        return [(one.method, "/".join(one.path.split("/")[-2:])) for one in seen if one.method in WRITES]

    def secrets(self) -> dict[str, str]:
        return {one.name: one.value for one in self.apps.list_secrets("my-rg", self.names.app).value}


@pytest.fixture
def place(azure_double: AzureDouble, workspace_root: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.05)
    azure_double.clock.scale = FAST
    return Place(azure_double, workspace_root)


# The plan


def test_without_apply_the_plan_is_shown_and_nothing_is_written(place: Place) -> None:
    place.group()
    before, since = place.state(), len(place.double.requests)
    with pytest.raises(NotApplied) as caught:
        place.run(apply=False)
    planned: ProvisionPlan = caught.value.plan  # type: ignore[attr-defined]
    assert [change.verb for change in planned.table.changes] == ["create"] * len(planned.table.changes)
    assert {change.id.lower() for change in planned.table.changes} >= {id_.lower() for id_ in planned.creates}
    assert planned.what_if is not None
    text = str(planned)
    assert "Would provision" in text
    assert "storage by GB and month" in text
    assert "per running replica" in text
    assert "runs at once even so, until 900 s" in text
    assert (place.state(), place.writes(since)) == (before, [])
    assert not place.workspace.path("infra/inference.config.json").exists()


def test_a_group_that_is_missing_blocks_until_it_may_be_created(place: Place) -> None:
    with pytest.raises(Blocked, match="no resource group my-rg"):
        place.run()
    assert place.plan(create_resource_group=True, location="westus3").title.startswith("Would provision")
    place.run(create_resource_group=True, location="westus3")
    assert place.writes()[0] == ("PUT", "resourcegroups/my-rg")


def test_every_blocker_is_named_at_once_and_nothing_is_written(place: Place) -> None:
    place.group()
    place.double.arm.permissions.forbid("Microsoft.App/containerApps/write")
    since = len(place.double.requests)
    with pytest.raises(Blocked) as caught:
        place.run(location="westus3", secrets=["NOT_SET_ANYWHERE"])
    found: tuple[str, ...] = caught.value.blockers  # type: ignore[attr-defined]
    assert any("Microsoft.App/containerApps/write" in one for one in found)
    assert any("NOT_SET_ANYWHERE" in one for one in found)
    assert place.writes(since) == []


def test_settings_that_cannot_work_are_refused_before_azure_is_asked(place: Place) -> None:
    with pytest.raises(Blocked, match="vLLM needs a GPU"):
        place.run(engine="vllm")
    assert place.double.requests == []


def test_what_azure_itself_would_refuse_is_a_blocker(place: Place) -> None:
    place.group()

    def policy(call: Call) -> None:
        if call.id.type == "Microsoft.Storage/storageAccounts":
            raise Refused(403, "RequestDisallowedByPolicy", "Resource was disallowed by policy 'No storage'.")

    place.double.arm.deployments.policies.append(policy)
    with pytest.raises(Blocked, match="A policy of your organisation forbids this"):
        place.run()


# Making it


def test_everything_is_made_and_the_config_file_is_written(place: Place) -> None:
    place.group()
    made = place.run()
    assert made.changed
    assert made.endpoint
    config = json.loads(place.workspace.path("infra/inference.config.json").read_text())
    assert config == {
        "SUBSCRIPTION_ID": SUBSCRIPTION,
        "RESOURCE_GROUP_NAME": "my-rg",
        "STORAGE_ACCOUNT_NAME": place.names.storage_account,
        "FILE_SHARE_NAME": place.names.file_share,
        "ACA_APP_NAME": place.names.app,
        "ACA_APP_ENDPOINT": place.app()["properties"]["configuration"]["ingress"]["fqdn"],
    }
    assert ResourceNames.read(place.workspace).app_id == made.app_id
    assert set(created.recall(place.workspace)) == set(place.names.ids.values())
    marks = {place.body(name)["tags"]["nbtoolkit-workspace"] for name in ("storage_account", "environment")}
    assert marks == {created.workspace_mark(place.workspace)}
    assert "tags" not in place.app()
    lines = "\n".join(place.progress.lines)
    assert "https://portal.azure.com/#view/HubsExtension/DeploymentDetails" in lines
    assert f"storage account {place.names.storage_account}: done" in lines
    assert f"container app {place.names.app}: done" in lines
    assert f"https://{made.endpoint.removeprefix('https://')}" in str(made)


def test_again_nothing_is_written_whatever_others_added(place: Place) -> None:
    place.group()
    place.run()
    place.body("environment")["properties"]["workloadProfiles"].append(
        {"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 2}
    )
    for name in ("storage_account", "environment"):
        place.body(name).setdefault("tags", {})["owner"] = "someone"
    place.body("file_share")["properties"]["shareQuota"] = 5000
    domains = [{"name": "chat.example.org", "bindingType": "Disabled"}]
    secrets = [{"name": name, "value": value} for name, value in {**place.secrets(), "extra": "e"}.items()]
    configuration = {"secrets": secrets, "ingress": {"customDomains": domains}}
    patch = {"tags": {"owner": "someone"}, "properties": {"configuration": configuration}}
    place.apps.begin_update("my-rg", place.names.app, patch).result()
    before, since = place.state(app=True), len(place.double.requests)
    again = place.run(apply=False)
    assert not again.changed
    assert place.writes(since) == []
    assert place.state(app=True) == before
    assert again.endpoint

    shared = {
        name: copy.deepcopy(place.body(name))
        for name in ("storage_account", "file_share", "environment", "log_analytics")
    }
    key = place.secrets()["nbtoolkit-api-key"]
    with pytest.raises(NotApplied, match="replicas, at most: 1 → 2"):
        place.run(apply=False, max_replicas=2)
    since = len(place.double.requests)
    place.run(max_replicas=2)
    assert place.writes(since) == [("PUT", f"deployments/nbtoolkit-{place.names.app}")]
    assert {name: place.body(name) for name in shared} == shared
    assert place.secrets() == {"nbtoolkit-api-key": key, "extra": "e"}
    app = place.app()
    assert app["tags"]["owner"] == "someone"
    assert app["properties"]["configuration"]["ingress"]["customDomains"][0]["name"] == "chat.example.org"
    assert app["properties"]["template"]["scale"]["maxReplicas"] == 2


RESTRICTED: dict[str, Any] = {
    "clientCertificateMode": "require",
    "corsPolicy": {"allowedOrigins": ["https://a.example"], "allowedMethods": ["POST"]},
    "additionalPortMappings": [{"external": False, "targetPort": 9000, "exposedPort": 9000}],
    "external": False,
}


def test_an_app_that_was_restricted_stays_so(place: Place) -> None:
    place.group()
    place.run()
    denied = {"name": "bad", "action": "Deny", "ipAddressRange": "198.51.100.0/24"}
    ingress = {**RESTRICTED, "ipSecurityRestrictions": [denied]}
    patch = {"properties": {"configuration": {"ingress": ingress, "maxInactiveRevisions": 7}}}
    place.apps.begin_update("my-rg", place.names.app, patch).result()
    planned = place.plan(max_replicas=2)
    (change,) = [one for one in planned.table.changes if one.verb == "change"]
    paths = [one.path for one in change.differences]
    assert "properties.template.scale.maxReplicas" in paths
    assert not [path for path in paths if "ingress" in path and "ipSecurityRestrictions" not in path]
    place.run(max_replicas=2)
    configuration = place.app()["properties"]["configuration"]
    kept = configuration["ingress"]
    assert {name: kept[name] for name in RESTRICTED} == RESTRICTED
    (rule,) = kept["ipSecurityRestrictions"]
    assert (rule["action"], rule["ipAddressRange"]) == ("Deny", "198.51.100.0/24")
    assert configuration["maxInactiveRevisions"] == 7
    with pytest.raises(Blocked, match=r"denies access to 198\.51\.100\.0/24"):
        place.run(allowed_ip_ranges=["203.0.113.0/24"])


def test_a_missing_gpu_is_added_to_an_environment_and_no_machine_is_taken_away(place: Place) -> None:
    place.group()
    place.run()
    profiles = place.body("environment")["properties"]["workloadProfiles"]
    profiles.append({"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 1})
    planned = place.plan(gpu="T4")
    assert planned.added_profile == {"name": "gpu-t4", "workloadProfileType": "Consumption-GPU-NC8as-T4"}
    since = len(place.double.requests)
    place.run(gpu="T4")
    assert place.writes(since)[0] == ("PATCH", f"managedEnvironments/{place.names.environment}")
    found = place.body("environment")["properties"]["workloadProfiles"]
    assert [one["name"] for one in found] == ["Consumption", "theirs", "gpu-t4"]
    assert place.app()["properties"]["workloadProfileName"] == "gpu-t4"


def test_a_share_is_made_in_an_account_that_exists(place: Place) -> None:
    place.group()
    place.run()
    account = copy.deepcopy(place.body("storage_account"))
    place.run(file_share="another", environment_storage="another", app="second")
    assert place.body("storage_account") == account
    assert ResourceNames.read(place.workspace).file_share == "another"


def test_chosen_names_are_remembered_where_asked(place: Place) -> None:
    place.group()
    place.run(app="mine", remember=True)
    file = json.loads(place.workspace.path("infra/provision/inference.parameters.json").read_text())
    assert file["parameters"]["acaAppName"] == {"value": "mine"}
    assert not place.run(app="", apply=False).changed


def test_secrets_reach_the_app_and_no_other_place(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.group()
    monkeypatch.setenv("MY_TOKEN", "canary-env")
    asked: dict[str, Any] = {"secrets": ["MY_TOKEN"], "hf_token": "canary-form"}
    with pytest.raises(NotApplied) as caught:
        place.run(apply=False, **asked)
    made = place.run(**asked)
    values = place.secrets()
    assert (values["my-token"], values["hf-token"]) == ("canary-env", "canary-form")
    key = values["nbtoolkit-api-key"]
    lines = "\n".join(place.progress.lines)
    shown = [str(caught.value), repr(made), made._repr_html_(), lines, *capsys.readouterr()]
    files = [
        path.read_text(errors="replace")
        for folder in ("infra", ".nbtoolkit")
        for path in (place.workspace.root / folder).rglob("*")
        if path.is_file()
    ]
    asked_for = [f"{one.path} {one.query}" for one in place.double.requests]
    for text in (*shown, *files, *asked_for):
        assert "canary" not in text
        assert key not in text
    assert not place.run(apply=False, **asked).changed
    monkeypatch.setenv("MY_TOKEN", "canary-new")
    with pytest.raises(NotApplied, match="secret my-token: replaced"):
        place.run(apply=False, **asked)


# When it goes wrong


def failing(place: Place, type_: str, status: int, code: str, message: str) -> Callable[[Call], None]:
    """Refuse one kind of resource while a deployment runs, not before it, until this is taken off again."""

    def guard(call: Call) -> None:
        if call.method == "PUT" and call.id.type == type_ and place.deployment() is not None:
            raise Refused(status, code, message)

    place.double.arm.guards.append(guard)
    return guard


def test_a_failure_names_the_resource_the_cause_and_what_to_do_and_the_next_run_goes_on(place: Place) -> None:
    place.group()
    message = "Exceeded for SubscriptionNCA100Gpus."
    guard = failing(place, "Microsoft.App/managedEnvironments", 400, "MaxRegionalQuotaExceeded", message)
    with pytest.raises(ProvisionFailed) as caught:
        place.run()
    (cause,) = caught.value.causes  # type: ignore[attr-defined]
    assert cause.code == "MaxRegionalQuotaExceeded"
    assert cause.resource == f"Microsoft.App/managedEnvironments {place.names.environment}"
    assert "SubscriptionNCA100Gpus" in caught.value.message
    assert "QuotaMenuBlade" in caught.value.next_step
    assert place.names.storage_account in str(place.double.arm.resources.keys())
    place.double.arm.guards.remove(guard)
    assert place.run().changed
    assert not place.run(apply=False).changed


def test_an_environment_that_failed_while_it_was_made_is_made_again(place: Place) -> None:
    place.group()
    guard = failing(place, "Microsoft.App/containerApps", 500, "InternalServerError", "Sorry.")
    with pytest.raises(ProvisionFailed, match="Azure itself failed"):
        place.run()
    place.double.arm.guards.remove(guard)
    place.body("environment")["properties"]["provisioningState"] = "Failed"
    assert place.run().changed
    assert place.body("environment")["properties"]["provisioningState"] == "Succeeded"


def test_an_environment_of_somebody_else_that_failed_blocks(place: Place) -> None:
    place.group()
    place.run()
    place.body("environment")["properties"]["provisioningState"] = "Failed"
    with pytest.raises(Blocked, match="in the state Failed"):
        place.run(app="another")
    created.forget(place.workspace, created.recall(place.workspace))
    with pytest.raises(Blocked, match="in the state Failed"):
        place.run()


def test_cancel_stops_the_deployment_and_says_what_goes_on(place: Place) -> None:
    place.group()
    place.double.clock.scale = SLOW

    def on(line: str) -> None:
        if "being created" in line:
            progress.cancel()

    progress = Lines(on)
    with pytest.raises(Cancelled) as caught:
        place.run(progress=progress)
    assert f"The deployment nbtoolkit-{place.names.app} is cancelled" in caught.value.message
    assert "Created resources stay" in caught.value.message
    deployment = place.deployment()
    assert deployment is not None
    deadline = time.monotonic() + 10
    while deployment["properties"]["provisioningState"] == "Running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert deployment["properties"]["provisioningState"] == "Canceled"
    place.double.clock.scale = FAST
    assert place.run().changed


def test_a_deployment_that_somebody_cancels_is_told_so_and_one_that_has_ended_cannot_be(place: Place) -> None:
    place.group()
    deployment = deployment_of(Cloud.shared(), place.names)
    assert deployment.state() is None
    place.double.clock.scale = SLOW
    deployment.start(load_template(), {"gpu": "none"}, {}, Progress())
    assert deployment.cancel()
    with pytest.raises(ProvisionFailed, match="was cancelled by another client"):
        deployment.watch(Progress())
    assert not deployment.cancel()


CHILD = """
import sys
from nbtoolkit.provisioning import ProvisionSettings, provision
provision(ProvisionSettings(subscription=sys.argv[1], resource_group="my-rg", gpu="none"), apply=True)
"""


def test_an_app_that_azure_still_works_on_is_waited_for(place: Place) -> None:
    place.group().run()
    place.double.clock.scale = SLOW
    apps = Cloud.shared().containerapps(SUBSCRIPTION).container_apps
    apps.begin_stop("my-rg", place.names.app)
    assert place.run(cooldown=1000).changed
    assert any("Azure still works on the app" in line for line in place.progress.lines)


def test_a_deployment_of_a_killed_kernel_is_taken_up_and_not_started_twice(place: Place) -> None:
    place.group()
    place.double.clock.scale = SLOW
    child = subprocess.Popen([sys.executable, "-c", CHILD, SUBSCRIPTION], cwd=place.workspace.root)
    starts = ("PUT", f"deployments/nbtoolkit-{place.names.app}")
    deadline = time.monotonic() + 60
    while starts not in place.writes():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    made = place.run(apply=False)  # it was applied already
    assert made.endpoint
    assert any("Taking up the deployment" in line for line in place.progress.lines)
    assert place.writes().count(starts) == 1
    assert ResourceNames.read(place.workspace).app == place.names.app


def test_a_change_without_a_gpu_for_old_and_new_needs_consent_to_downtime(place: Place) -> None:
    place.group()
    place.double.apps.quota.limits["SubscriptionConsumptionT4Gpus"] = 1
    gpu: dict[str, Any] = {"gpu": "T4", "min_replicas": 1}
    place.run(**gpu)
    until(lambda: place.app()["properties"]["latestReadyRevisionName"])
    since = len(place.double.requests)
    with pytest.raises(Blocked, match="no machine for it beside the running one") as caught:
        place.run(**gpu, cooldown=300)
    assert "allow_downtime" in caught.value.message
    assert place.writes(since) == []
    planned = place.plan(**gpu, cooldown=300, allow_downtime=True)
    assert "nothing answers for some minutes" in str(planned)
    made = place.run(**gpu, cooldown=300, allow_downtime=True)
    assert made.note == ""
    posts = [one.path.rpartition("/")[2] for one in place.double.requests[since:] if one.method == "POST"]
    assert [name for name in posts if name in ("stop", "start")] == ["stop", "start"]
    assert place.app()["properties"]["template"]["scale"]["cooldownPeriod"] == 300
    assert place.app()["properties"]["runningStatus"] != "Stopped"


def test_a_new_revision_that_does_not_get_ready_is_told_of(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "RETRY_TIMEOUT", 0.5)
    place.group()
    gpu: dict[str, Any] = {"gpu": "T4", "min_replicas": 1}
    place.run(**gpu)
    until(lambda: place.app()["properties"]["latestReadyRevisionName"])

    def on(line: str) -> None:
        if line.startswith("Deploying"):  # somebody else takes the second one after the plan was made
            place.double.apps.quota.limits["SubscriptionConsumptionT4Gpus"] = 1

    made = place.run(**gpu, cooldown=300, progress=Lines(on))
    assert "is not ready yet" in made.note
    assert "serves meanwhile" in made.note
    assert made.note in str(made)


def test_what_scale_or_the_portal_set_is_kept_unless_it_is_chosen(place: Place) -> None:
    place.group()
    place.run()
    rule = {"name": "http", "http": {"metadata": {"concurrentRequests": "8"}}}
    limits = {"minReplicas": 1, "maxReplicas": 3, "cooldownPeriod": 120, "rules": [rule]}
    containers = place.app()["properties"]["template"]["containers"]
    containers[0]["image"] = "mine:1"
    del containers[0]["resources"]["ephemeralStorage"]
    template_ = {"scale": limits, "containers": containers}
    place.apps.begin_update("my-rg", place.names.app, {"properties": {"template": template_}}).result()
    since = len(place.double.requests)
    assert not place.run().changed
    assert place.writes(since) == []
    with pytest.raises(NotApplied, match="replicas, at most: 3 → 1") as caught:
        place.run(apply=False, max_replicas=1, min_replicas=0)
    assert "cooldown" not in caught.value.message
    place.run(tags={"new": "1"}, remember=True)
    template_ = place.app()["properties"]["template"]
    assert template_["scale"]["maxReplicas"] == 3
    assert template_["scale"]["cooldownPeriod"] == 120
    assert template_["containers"][0]["image"] == "mine:1"
    assert not place.run(tags={"new": "1"}).changed
    file = place.workspace.path("infra/provision/inference.parameters.json").read_text()
    assert json.loads(file)["parameters"]["maximumInstanceCount"]["value"] is None


def test_what_may_not_be_read_is_a_blocker_with_all_that_is_missing(place: Place) -> None:
    place.group()
    place.run()
    forbidden = [f"Microsoft.App/containerApps/{one}" for one in ("listSecrets/action", "start/action")]
    place.double.arm.permissions.forbid(*forbidden)
    with pytest.raises(Blocked) as caught:
        place.run(max_replicas=2)
    (blocker,) = caught.value.blockers  # type: ignore[attr-defined]
    assert all(action in blocker for action in forbidden)
    place.double.arm.permissions.forbid("Microsoft.Storage/storageAccounts/read")
    with pytest.raises(Blocked, match="storageAccounts/read"):
        place.run()


def test_a_subscription_in_capitals_gives_the_same_names(place: Place) -> None:
    capitals = "ABCDEF00-0000-0000-0000-00000000000A"
    names = [place.settings(subscription=one).resource_names() for one in (capitals, capitals.lower())]
    assert names[0] == names[1]


class Killed(BaseException):
    """Ends a run where it is, as a kernel's end does; nothing in the toolkit expects it."""


def kill_at(word: str) -> Lines:
    def on(line: str) -> None:
        if word in line:
            raise Killed

    return Lines(on)


def test_what_a_run_only_meant_to_create_is_not_taken_for_its_own(place: Place) -> None:
    place.group()
    place.double.faults.on("PUT", "/deployments/nbtoolkit-", Broken(400), times=20)
    with pytest.raises(NbtoolkitError):
        place.run()
    theirs = {"location": "westus3", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "properties": {}}
    storage: Any = Cloud.shared().storage(SUBSCRIPTION)
    storage.storage_accounts.begin_create("my-rg", place.names.storage_account, theirs).result()
    place.double.faults.clear()
    place.run()
    account, share = place.names.ids["storage_account"], place.names.ids["file_share"]
    ours = created.recall(place.workspace)
    assert account not in ours
    assert share in ours
    gone = teardown(TeardownSettings(scope="all", confirm_name=place.names.app), workspace=place.workspace)
    assert account not in gone.deletes
    assert place.double.arm.get(account) is not None
    assert place.double.arm.get(place.names.ids["environment"]) is None


def test_what_a_killed_run_created_is_known_to_the_next_teardown(place: Place) -> None:
    place.group()
    with pytest.raises(Killed):
        place.run(progress=kill_at(f"storage account {place.names.storage_account}: done"))
    assert created.recall(place.workspace) == ()
    place.wait_for_deployment()
    ResourceNames(
        SUBSCRIPTION, "my-rg", place.names.storage_account, place.names.file_share, place.names.app
    ).write(place.workspace)
    planned = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert {place.names.ids[name] for name in ("app", "environment", "storage_account")} <= set(
        planned.deletes
    )
    teardown(TeardownSettings(scope="all", confirm_name=place.names.app), workspace=place.workspace)
    assert created.recall(place.workspace) == ()
    run = created.last_run(place.workspace)
    assert run is not None
    assert run.intended == ()


def test_what_was_deleted_and_made_again_by_somebody_else_is_kept(place: Place) -> None:
    place.group()
    place.run()
    del place.body("storage_account")["tags"]["nbtoolkit-workspace"]
    plan_ = teardown(TeardownSettings(scope="all"), workspace=place.workspace)
    assert not {place.names.ids["storage_account"], place.names.ids["file_share"]} & set(plan_.deletes)
    assert "not made by this workspace" in str(plan_)


def test_who_only_waits_for_somebody_elses_deployment_never_cancels_it(place: Place) -> None:
    place.group()
    place.double.clock.scale = SLOW
    deployment = deployment_of(Cloud.shared(), place.names)
    deployment.start(load_template(), {"gpu": "none"}, {}, Progress())
    progress = Lines(lambda line: progress.cancel() if "being created" in line else None)
    with pytest.raises(Cancelled, match="only waited for the deployment") as caught:
        place.run(progress=progress)
    assert "cancel it there" in caught.value.next_step
    place.wait_for_deployment()
    state = deployment.state()
    assert state is not None
    assert state.status == "Succeeded"


def test_a_plan_does_not_cancel_what_an_earlier_run_applied(place: Place) -> None:
    place.group()
    place.double.clock.scale = SLOW
    with pytest.raises(Killed):
        place.run(progress=kill_at("being created"))
    progress = Lines(lambda line: progress.cancel() if "being created" in line else None)
    with pytest.raises(Cancelled, match="only waited for"):
        place.run(apply=False, progress=progress)
    progress = Lines(lambda line: progress.cancel() if "being created" in line else None)
    with pytest.raises(Cancelled, match="is cancelled"):
        place.run(progress=progress)


def test_a_machine_that_is_added_beside_others_takes_away_none(place: Place) -> None:
    place.group()
    place.run()
    body = place.body("environment")["properties"]["workloadProfiles"]

    def on(line: str) -> None:
        if line.startswith("Adding") and len(body) == 1:
            body.append({"name": "theirs", "workloadProfileType": "D4", "minimumCount": 0, "maximumCount": 1})

    place.run(gpu="T4", progress=Lines(on))
    found = place.body("environment")["properties"]["workloadProfiles"]
    assert [one["name"] for one in found] == ["Consumption", "theirs", "gpu-t4"]
    plan_ = teardown(TeardownSettings(), workspace=place.workspace)
    assert "machine" in str(plan_)
    assert "gpu-t4" in str(plan_)


def test_a_machine_that_is_there_by_now_is_used_under_its_own_name(place: Place) -> None:
    place.group()
    place.run()
    body = place.body("environment")["properties"]["workloadProfiles"]

    def on(line: str) -> None:
        if line.startswith("Adding") and len(body) == 1:
            body.append({"name": "theirs", "workloadProfileType": "Consumption-GPU-NC8as-T4"})

    since = len(place.double.requests)
    place.run(gpu="T4", progress=Lines(on))
    assert [method for method, _ in place.writes(since)] == ["PUT"]
    assert place.app()["properties"]["workloadProfileName"] == "theirs"


def test_two_runs_of_one_workspace_do_not_meet(place: Place) -> None:
    place.group()
    with place.workspace.lock("provision", target="azure"), pytest.raises(NbtoolkitError, match="provision"):
        place.run()


def test_a_deployment_whose_first_answer_was_lost_is_not_refused_as_running_already(place: Place) -> None:
    place.group()
    lost = place.double.faults.on("PUT", "/deployments/nbtoolkit-", Reset("lost"))
    assert place.run().changed
    assert lost.hits == 1


def test_a_machine_whose_adding_was_not_confirmed_is_looked_for(place: Place) -> None:
    place.group()
    place.run()
    place.double.faults.on("PATCH", "managedEnvironments", Reset("lost"))
    assert place.run(gpu="T4").changed
    assert place.app()["properties"]["workloadProfileName"] == "gpu-t4"
    place.body("environment")["properties"]["provisioningState"] = "Updating"
    with pytest.raises(Blocked, match="in the state Updating"):
        place.run(apply=False, gpu="A100")
    threading.Timer(
        0.5, place.body("environment")["properties"].update, [{"provisioningState": "Succeeded"}]
    ).start()
    assert place.run(gpu="A100").changed


def test_an_answer_lost_while_it_waits_does_not_end_the_waiting(place: Place) -> None:
    place.group()
    place.double.clock.scale = SLOW
    started = threading.Event()

    def on(line: str) -> None:
        if "being created" in line and not started.is_set():
            started.set()
            place.double.faults.on(
                "GET", "/operations", Broken(500), times=4
            )  # as often as the SDK itself tries

    progress = Lines(on)
    assert place.run(progress=progress).changed
    assert started.is_set()
