"""How the double's apps change: revisions, restarts, scaling to zero, crashes and the GPU quota."""

from __future__ import annotations

import pytest
from azure.core.exceptions import HttpResponseError

from tests.support.container_app_harness import APP, CONSUMPTION, GPU, GROUP, REGION, Azure
from tests.support.container_app_harness import azure_fixture as azure_fixture
from tests.support.wait import wait_until


def test_update_switches_only_when_the_new_revision_is_ready(azure: Azure) -> None:
    azure.environment()
    first = azure.put()["properties"]["latestRevisionName"]
    azure.patch({"configuration": {"maxInactiveRevisions": 50}})
    assert list(azure.revisions()) == [first], "a change outside the template makes no revision"
    template = azure.body(env=[{"name": "SLOW", "value": "1"}], suffix="two")["properties"]["template"]
    azure.patch({"template": template})
    assert azure.get()["latestRevisionName"] == f"{APP}--two"
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == first, "the old one serves meanwhile"
    wait_until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--two")
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == f"{APP}--two"
    wait_until(lambda: not azure.revisions()[first]["active"] and azure.revisions()[first]["replicas"] == 0)
    with pytest.raises(HttpResponseError, match="already exists"):
        azure.patch({"template": azure.body(suffix=first.split("--")[1])["properties"]["template"]})


def test_revision_that_does_not_become_ready_fails(azure: Azure) -> None:
    azure.environment()
    first = azure.put()["properties"]["latestRevisionName"]
    azure.apps.limits.deadline = azure.apps.limits.deadline_seconds = 1
    azure.patch(
        {
            "template": azure.body(env=[{"name": "NEVER_READY", "value": "1"}], suffix="bad")["properties"][
                "template"
            ]
        }
    )
    bad = wait_until(
        lambda: azure.revisions()[f"{APP}--bad"].get("provisioningError") and azure.revisions()[f"{APP}--bad"]
    )
    assert bad["provisioningError"] == "Deployment Progress Deadline Exceeded. 0/1 replicas ready."
    assert bad["healthState"] == "Unhealthy"
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == first
    assert azure.get()["latestReadyRevisionName"] == first


def test_restart_stop_and_start(azure: Azure) -> None:
    azure.environment()
    revision = azure.put()["properties"]["latestRevisionName"]
    [old] = azure.replicas()
    azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, revision)
    wait_until(
        lambda: (
            [one["name"] for one in azure.replicas()] not in ([], [old["name"]])
            and len(azure.replicas()) == 1
        )
    )
    azure.sdk.container_apps.begin_stop(GROUP, APP).result()
    assert azure.get()["runningStatus"] == "Stopped"
    assert not azure.apps.processes()
    assert azure.http.get(azure.url).status_code == 403
    with pytest.raises(HttpResponseError, match="not active"):
        azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, revision)
    azure.sdk.container_apps.begin_start(GROUP, APP).result()
    wait_until(lambda: azure.replicas() and azure.replicas()[0]["properties"]["containers"][0]["ready"])
    azure.ask()


def test_request_wakes_an_app_at_zero_and_gets_504_meanwhile(azure: Azure) -> None:
    azure.environment()
    azure.put(least=0, env=[{"name": "SLOW", "value": "1.5"}])
    azure.apps.scale_to_zero(APP)
    assert azure.replicas() == []
    assert not azure.apps.processes()
    azure.apps.limits.hold = 0
    azure.apps.limits.hold_seconds = 20
    answer = azure.http.get(azure.url)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        504,
        "stream timeout",
        "text/plain",
    )
    assert wait_until(lambda: azure.replicas())
    wait_until(lambda: azure.http.get(azure.url).status_code == 200)
    azure.apps.limits.cooldown = 0
    azure.patch({"template": {"scale": {"minReplicas": 0, "maxReplicas": 1, "cooldownPeriod": 30}}})
    wait_until(lambda: azure.get()["latestReadyRevisionName"].endswith("0000001"))
    wait_until(lambda: not azure.replicas() and not azure.apps.processes())


def test_crash_loop_counts_restarts_and_reports_the_reason(azure: Azure) -> None:
    azure.environment()
    azure.put()
    azure.apps.crash(APP, times=2)
    azure.apps.kill(APP)
    wait_until(lambda: azure.replicas()[0]["properties"]["containers"][0]["restartCount"] == 3)
    wait_until(lambda: azure.replicas()[0]["properties"]["containers"][0]["ready"])
    events = azure.events()
    assert (
        "ContainerTerminated",
        "Container 'inference' was terminated with exit code '1' and reason 'ProcessExited'.",
    ) in events
    assert "ContainerBackOff" in [reason for reason, _ in events]
    assert "made to crash" in str(
        azure.read(azure.replicas()[0]["properties"]["containers"][0]["logStreamEndpoint"])
    )


def test_gpu_quota_limits_replicas_and_environments(azure: Azure) -> None:
    """With room for one GPU a new revision waits in AssigningReplica; stop, update and start go through."""
    with pytest.raises(HttpResponseError, match="minimumCount"):
        azure.environment([{**GPU, "minimumCount": 0, "maximumCount": 1}])
    with pytest.raises(HttpResponseError, match="SubscriptionNCA100Gpus"):
        azure.environment(
            [{"name": "d", "workloadProfileType": "NC24-A100", "minimumCount": 0, "maximumCount": 1}]
        )
    azure.environment([CONSUMPTION, GPU])
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    azure.put(profile="gpu")
    usages = {
        one["name"]["value"]: one for one in (usage.as_dict() for usage in azure.sdk.usages.list(REGION))
    }
    a100 = usages["SubscriptionConsumptionNCA100Gpus"]
    assert (a100["currentValue"], a100["limit"]) == (1, 1)
    assert a100["name"]["localizedValue"] == "Subscription Consumption NCA 100 Gpus"
    assert usages["ConsumptionNCA100GpusEnvCount"]["currentValue"] == 1
    azure.patch({"template": {"revisionSuffix": "two"}})
    [waiting] = wait_until(lambda: azure.replicas(f"{APP}--two"))
    assert waiting["properties"]["runningStateDetails"] == "AssigningReplica"
    assert azure.get()["latestReadyRevisionName"] != f"{APP}--two"
    azure.sdk.container_apps.begin_stop(GROUP, APP).result()
    azure.sdk.container_apps.begin_start(GROUP, APP).result()
    wait_until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--two")
    with pytest.raises(HttpResponseError, match="WorkloadProfileInUse"):
        azure.environment([CONSUMPTION])


def test_held_replica_waits_for_capacity(azure: Azure) -> None:
    azure.environment()
    azure.apps.hold(APP)
    starting = azure.sdk.container_apps.begin_create_or_update(GROUP, APP, azure.body())
    [waiting] = wait_until(
        lambda: azure.replicas(azure.apps.app(APP).latest.name) if azure.apps.app(APP).latest else []
    )
    container = waiting["properties"]["containers"][0]
    assert (waiting["properties"]["runningState"], container["runningState"]) == ("NotRunning", "Waiting")
    azure.apps.hold(APP, stuck=False)
    starting.result()


def test_replica_without_capacity_fails_the_first_provision(azure: Azure) -> None:
    azure.environment([CONSUMPTION, GPU])
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 0
    azure.apps.limits.deadline = azure.apps.limits.deadline_seconds = 0.5
    with pytest.raises(HttpResponseError, match="Operation expired") as failed:
        azure.put(profile="gpu")
    assert failed.value.error is not None
    assert failed.value.error.code == "ContainerAppOperationError"
    assert azure.get()["provisioningState"] == "Failed"
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    azure.apps.limits.deadline = 20
    assert azure.put(profile="gpu")["properties"]["provisioningState"] == "Succeeded"
