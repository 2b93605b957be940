"""The double's container apps, driven by the real SDK and by HTTP, with real processes as containers."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import uuid
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import EnvironmentCredential

from tests.azure_double import AzureDouble
from tests.azure_double.containers import processes_with_mark
from tests.support.container_app_harness import APP, CONSUMPTION, ENV, GROUP, REGION, Azure
from tests.support.container_app_harness import azure_fixture as azure_fixture
from tests.support.wait import wait_until


def test_an_app_responds_after_its_environment_and_storage_are_created(azure: Azure) -> None:
    """An app answers on its host, with its share, its secrets and nothing of this process's environment."""
    made = azure.environment()
    assert made["location"] == "West US 3"
    assert made["properties"]["provisioningState"] == "Succeeded"
    azure.storage()
    (azure.double.files.folder("acct", "share") / "hello.txt").write_text("hello")
    app = azure.put(
        mounted=True,
        mount_options="actimeo=1,nobrl",
        secrets=[{"name": "api-key", "value": "canary"}],
        env=[{"name": "API_KEY", "secretRef": "api-key"}],
    )
    assert app["properties"]["provisioningState"] == "Succeeded"
    assert app["properties"]["latestReadyRevisionName"] == app["properties"]["latestRevisionName"]
    assert "canary" not in json.dumps(app)
    seen = azure.ask()
    assert seen["names"] == ["hello.txt"]
    assert seen["env"]["API_KEY"] == "canary"
    assert seen["env"]["CONTAINER_APP_REVISION"] == app["properties"]["latestRevisionName"]
    assert not [
        name for name in seen["env"] if name.startswith("AZURE_CLIENT") or name.lower() == "https_proxy"
    ]
    assert azure.apps.ingress_requests(APP) == 1
    assert {one.name: one.value for one in azure.sdk.container_apps.list_secrets(GROUP, APP).value} == {
        "api-key": "canary"
    }


def test_secrets_are_replaced_by_put_and_kept_by_patch(azure: Azure) -> None:
    azure.environment()
    reference = [{"name": "KEY", "secretRef": "key"}]
    with pytest.raises(HttpResponseError, match="ContainerAppSecretRefNotFound"):
        azure.put(env=reference)
    azure.put(env=reference, secrets=[{"name": "key", "value": "one"}, {"name": "other", "value": "x"}])
    azure.patch({"configuration": {"maxInactiveRevisions": 7}})

    def names() -> list[str | None]:
        return [one.name for one in azure.sdk.container_apps.list_secrets(GROUP, APP).value]

    assert names() == ["key", "other"]
    azure.patch(
        {"configuration": {"secrets": [{"name": "key", "value": "two"}, {"name": "other", "value": "x"}]}}
    )
    assert azure.ask()["env"]["KEY"] == "one", "a changed value needs a restart"
    [old] = azure.replicas()
    azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, azure.get()["latestRevisionName"])
    wait_until(
        lambda: (
            [one["name"] for one in azure.replicas()] != [old["name"]] and azure.ask()["env"]["KEY"] == "two"
        )
    )
    azure.put(secrets=[{"name": "key", "value": "two"}], suffix="plain")
    assert names() == ["key"]
    wait_until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--plain")
    with pytest.raises(HttpResponseError, match="ContainerAppSecretInUse"):
        azure.put(suffix="plain")
    with pytest.raises(HttpResponseError, match="ContainerAppSecretInvalid"):
        azure.patch({"configuration": {"secrets": [{"name": "key"}]}})


def test_changes_exclude_each_other(azure: Azure) -> None:
    azure.double.clock.scale = 0.05
    azure.environment()
    body = {
        "properties": {
            "workloadProfiles": [
                CONSUMPTION,
                {"name": "t4", "workloadProfileType": "Consumption-GPU-NC8as-T4"},
            ]
        }
    }
    first = azure.sdk.managed_environments.begin_update(GROUP, ENV, body)
    with pytest.raises(HttpResponseError, match="ManagedEnvironmentOperationInProgress") as refused:
        azure.sdk.managed_environments.begin_create_or_update(GROUP, ENV, {"location": REGION, **body})
    assert refused.value.status_code == 409
    assert [one["name"] for one in first.result().as_dict()["properties"]["workloadProfiles"]] == [
        "Consumption",
        "t4",
    ]
    starting = azure.sdk.container_apps.begin_create_or_update(GROUP, APP, azure.body())
    with pytest.raises(HttpResponseError, match="ContainerAppLockConflict") as refused:
        azure.sdk.container_apps.begin_stop(GROUP, APP)
    assert refused.value.status_code == 409
    starting.result()


def test_deleted_app_leaves_no_process(azure: Azure) -> None:
    azure.environment()
    azure.put()
    assert len(azure.apps.processes()) == 2, "the server and the child that left its process group"
    with pytest.raises(HttpResponseError, match="ManagedEnvironmentHasContainerApps"):
        azure.sdk.managed_environments.begin_delete(GROUP, ENV)
    azure.sdk.container_apps.begin_delete(GROUP, APP).result()
    assert not azure.apps.processes()
    with pytest.raises(ResourceNotFoundError, match="ResourceNotFound"):
        azure.sdk.container_apps.get(GROUP, APP)
    azure.sdk.managed_environments.begin_delete(GROUP, ENV).result()
    assert list(azure.sdk.managed_environments.list_by_resource_group(GROUP)) == []


def test_deleted_group_deletes_its_apps(azure: Azure) -> None:
    azure.environment()
    azure.put()
    groups = f"https://management.azure.com/subscriptions/{azure.double.subscription}/resourceGroups/{GROUP}"
    token = EnvironmentCredential().get_token("https://management.azure.com/.default").token
    headers = {"authorization": f"Bearer {token}"}
    assert azure.http.delete(groups, params={"api-version": "2021-04-01"}, headers=headers).status_code == 202
    wait_until(
        lambda: (
            azure.double.arm.get(f"/subscriptions/{azure.double.subscription}/resourceGroups/{GROUP}") is None
        )
    )
    assert not azure.apps.processes()


def test_killed_run_leaves_no_container(tmp_path: Path) -> None:
    """A test run that is killed cannot clean up; its containers end nevertheless."""
    program = textwrap.dedent("""
        import sys, time
        from tests.azure_double.containers import MARK
        from tests.azure_double.process_cleanup import ProcessCleanup
        import subprocess
        mark = sys.argv[1]
        ProcessCleanup(mark).watch()
        subprocess.Popen(["sleep", "60"], env={MARK: mark + "-replica"}, start_new_session=True)
        print("started", flush=True)
        time.sleep(60)
    """)
    mark = uuid.uuid4().hex
    run = subprocess.Popen(
        [sys.executable, "-c", program, mark], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == b"started\n"
    assert processes_with_mark(mark)
    run.kill()
    run.wait()
    wait_until(lambda: not processes_with_mark(mark))


def test_closed_double_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AzureDouble(tmp_path) as double:
        for name, value in double.environ().items():
            monkeypatch.setenv(name, value)
        double.arm.groups.add(GROUP, REGION)
        azure = Azure(double)
        azure.environment()
        azure.put()
        assert double.apps.processes()
        azure.http.close()
    assert not double.apps.processes()
    assert not [one.name for one in threading.enumerate() if APP in one.name]
    assert not double.crashes
