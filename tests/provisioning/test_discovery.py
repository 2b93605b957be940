"""The snapshot of what exists: number of reads, running deployments, environments that changed or failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from nbtoolkit.azure.arm import created_resources
from nbtoolkit.azure.arm.deployment import load_template
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import (
    Blocked,
    Cancelled,
    ProvisionFailed,
)
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.discovery import app_deployment
from tests.azure_double import SUBSCRIPTION
from tests.azure_double.faults import Broken, Reset
from tests.support.provision_project import SLOW, ProvisionProject, fail_put
from tests.support.recording_progress import RecordingProgress, cancel_at
from tests.support.wait import wait_until


def resource_reads(project: ProvisionProject, since: int) -> dict[str, int]:
    """Return how often each resource was read, by its field in the snapshot; the deployment before a PUT."""
    requests = project.double.requests[since:]
    writes = [n for n, one in enumerate(requests) if one.method == "PUT"] or [len(requests)]
    paths = [one.path.lower() for one in requests[: writes[0]] if one.method == "GET"]
    ids = {**project.names.ids, "group": project.names.group_id}
    ids["deployment"] = app_deployment(Cloud.shared(), project.names).id
    return {name: paths.count(id_.lower()) for name, id_ in ids.items()}


ONCE = {
    **dict.fromkeys(("group", "storage_account", "file_share", "log_analytics"), 1),
    **dict.fromkeys(("environment", "environment_storage", "app", "deployment"), 1),
}


def test_each_resource_is_read_once_for_plan_preflight_and_deployment(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    since = len(project.double.requests)
    assert not project.provision().changed
    assert resource_reads(project, since) == ONCE
    since = len(project.double.requests)
    assert project.provision(cooldown=300).changed
    assert resource_reads(project, since) == ONCE


def test_only_the_environment_of_the_app_is_read(project: ProvisionProject) -> None:
    project.create_group()
    project.provision(environment_name="other", environment_storage="other-share")
    since = len(project.double.requests)
    assert not project.provision(apply=False).changed
    other = project.names.ids["environment"].replace(project.names.environment, "other").lower()
    paths = [one.path.lower() for one in project.double.requests[since:] if one.method == "GET"]
    assert (paths.count(other), paths.count(f"{other}/storages/other-share")) == (1, 1)
    assert resource_reads(project, since) == {**ONCE, "environment": 0, "environment_storage": 0}


def test_after_a_change_by_azure_only_environment_and_app_are_read_again(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    properties = project.body("environment")["properties"]
    properties["provisioningState"] = "Updating"
    threading.Timer(0.3, properties.update, [{"provisioningState": "Succeeded"}]).start()
    since = len(project.double.requests)
    assert not project.provision().changed
    reads = resource_reads(project, since)
    assert reads.pop("environment") >= 2
    again = {"app": 2, "environment_storage": 2}
    assert reads == {name: again.get(name, 1) for name in ONCE if name != "environment"}


def test_an_own_environment_that_failed_is_created_again(project: ProvisionProject) -> None:
    project.create_group()
    guard = fail_put(project, "Microsoft.App/containerApps", 500, "InternalServerError", "Sorry.")
    with pytest.raises(ProvisionFailed, match="Azure itself failed"):
        project.provision()
    project.double.arm.guards.remove(guard)
    project.body("environment")["properties"]["provisioningState"] = "Failed"
    assert project.provision().changed
    assert project.body("environment")["properties"]["provisioningState"] == "Succeeded"


def test_a_failed_environment_of_another_workspace_blocks(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    project.body("environment")["properties"]["provisioningState"] = "Failed"
    with pytest.raises(Blocked, match="in the state Failed"):
        project.provision(app="another")
    created_resources.forget(project.workspace, created_resources.recall(project.workspace))
    with pytest.raises(Blocked, match="in the state Failed"):
        project.provision()


def test_provision_waits_for_an_app_that_azure_still_changes(project: ProvisionProject) -> None:
    project.create_group().provision()
    project.double.clock.scale = SLOW
    apps = Cloud.shared().containerapps(SUBSCRIPTION).container_apps
    apps.begin_stop("my-rg", project.names.app)
    assert project.provision(cooldown=1000).changed
    assert any("Azure still works on the app" in line for line in project.progress.lines)


CHILD = """
import sys
from nbtoolkit.provisioning import ProvisionSettings, provision
provision(ProvisionSettings(subscription=sys.argv[1], resource_group="my-rg", gpu="none"), apply=True)
"""


def test_a_running_deployment_of_a_killed_kernel_is_waited_for_and_not_started_twice(
    project: ProvisionProject,
) -> None:
    project.create_group()
    project.double.clock.scale = SLOW
    child = subprocess.Popen([sys.executable, "-c", CHILD, SUBSCRIPTION], cwd=project.workspace.root)
    starts = ("PUT", f"deployments/nbtoolkit-{project.names.app}")
    wait_until(lambda: child.poll() is not None or starts in project.writes(), 60)
    assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    made = project.provision(apply=False)  # it was applied already
    assert made.endpoint
    assert any("Waiting for the running deployment" in line for line in project.progress.lines)
    assert project.writes().count(starts) == 1
    assert ResourceNames.read(project.workspace).app == project.names.app


def test_default_names_do_not_depend_on_the_case_of_the_subscription(project: ProvisionProject) -> None:
    capitals = "ABCDEF00-0000-0000-0000-00000000000A"
    names = [project.settings(subscription=one).resource_names() for one in (capitals, capitals.lower())]
    assert names[0] == names[1]


def test_a_cancel_does_not_cancel_the_deployment_of_another_user(project: ProvisionProject) -> None:
    project.create_group()
    project.double.clock.scale = SLOW
    deployment = app_deployment(Cloud.shared(), project.names)
    deployment.start(load_template(), {"gpu": "none"}, {}, Progress())
    progress = cancel_at("being created")
    with pytest.raises(Cancelled, match="only waited for the deployment") as caught:
        project.provision(progress=progress)
    assert "cancel it there" in caught.value.next_step
    project.wait_for_deployment()
    state = deployment.state()
    assert state is not None
    assert state.status == "Succeeded"


def test_a_deployment_cancelled_by_another_user_fails_and_an_ended_one_cannot_be_cancelled(
    project: ProvisionProject,
) -> None:
    project.create_group()
    deployment = app_deployment(Cloud.shared(), project.names)
    assert deployment.state() is None
    project.double.clock.scale = SLOW
    deployment.start(load_template(), {"gpu": "none"}, {}, Progress())
    assert deployment.cancel()
    with pytest.raises(ProvisionFailed, match="was cancelled by another client"):
        deployment.watch(Progress())
    assert not deployment.cancel()


def test_a_deployment_whose_first_response_was_lost_is_not_refused_as_running(
    project: ProvisionProject,
) -> None:
    project.create_group()
    lost = project.double.faults.on("PUT", "/deployments/nbtoolkit-", Reset("lost"))
    assert project.provision().changed
    assert lost.hits == 1


def test_a_profile_whose_response_was_lost_is_found(project: ProvisionProject) -> None:
    project.create_group()
    project.provision()
    project.double.faults.on("PATCH", "managedEnvironments", Reset("lost"))
    assert project.provision(gpu="T4").changed
    assert project.app()["properties"]["workloadProfileName"] == "gpu-t4"
    project.body("environment")["properties"]["provisioningState"] = "Updating"
    with pytest.raises(Blocked, match="in the state Updating"):
        project.provision(apply=False, gpu="A100")
    threading.Timer(
        0.5, project.body("environment")["properties"].update, [{"provisioningState": "Succeeded"}]
    ).start()
    assert project.provision(gpu="A100").changed


def test_lost_responses_while_waiting_do_not_end_the_wait(project: ProvisionProject) -> None:
    project.create_group()
    project.double.clock.scale = SLOW
    started = threading.Event()

    def on(line: str) -> None:
        if "being created" in line and not started.is_set():
            started.set()
            project.double.faults.on(
                "GET", "/operations", Broken(500), times=4
            )  # as often as the SDK itself tries

    progress = RecordingProgress(on)
    assert project.provision(progress=progress).changed
    assert started.is_set()
