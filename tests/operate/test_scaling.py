"""Replica limits, stop and start, through the real SDKs against the double."""

from __future__ import annotations

import pytest

from nbtoolkit import (
    ScaleSettings,
    scale,
)
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.errors import AzureFailed, InvalidSettings, QuotaShort
from tests.azure_double.faults import lock_conflict
from tests.support.azure_project import APP, MakeProject
from tests.support.operated_app import A100_QUOTA, app_properties, writes
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until


def test_changed_limits_create_one_revision_without_other_changes(make_project: MakeProject) -> None:
    project = make_project()
    project.deploy("brave")
    before = app_properties(project)
    project.forget_requests()
    status = scale(ScaleSettings(minimum=1, maximum=3), target=project.target)
    assert writes(project) == [f"PATCH {APP}"]
    after = app_properties(project)
    assert after["template"]["scale"] == {**before["template"]["scale"], "minReplicas": 1, "maxReplicas": 3}
    assert after["template"]["containers"] == before["template"]["containers"]
    assert after["template"]["volumes"] == before["template"]["volumes"]
    assert project.target.app.get().secret_names == ["nbtoolkit-api-key"]
    assert "from 1 to 3" in str(status)
    assert project.says() == "brave"

    project.forget_requests()
    scale(ScaleSettings(minimum=1, maximum=3), target=project.target)
    assert writes(project) == []


def test_an_app_is_stopped_and_started_again(make_project: MakeProject) -> None:
    project = make_project()
    project.forget_requests()
    assert scale(ScaleSettings(running=False), target=project.target).state == "stopped"
    assert scale(ScaleSettings(running=False), target=project.target).state == "stopped"
    assert writes(project) == ["POST stop"]
    assert scale(ScaleSettings(), target=project.target).state in ("asleep", "starting")
    assert writes(project) == ["POST stop", "POST start"]


def test_limits_of_a_stopped_app_change_without_starting_it(make_project: MakeProject) -> None:
    project = make_project()
    scale(ScaleSettings(running=False), target=project.target)
    status = scale(ScaleSettings(maximum=2, running=False), target=project.target)
    assert (status.state, app_properties(project)["template"]["scale"]["maxReplicas"]) == ("stopped", 2)
    assert project.double.apps.ingress_requests(APP) == 0


def test_new_limits_need_a_free_gpu_or_allow_downtime(make_project: MakeProject) -> None:
    project, progress = make_project(gpu=True, min_replicas=1), RecordingProgress()
    wait_until(lambda: project.target.replicas(refresh=True))
    project.double.apps.quota.limits[A100_QUOTA] = 1
    project.forget_requests()
    with pytest.raises(QuotaShort, match="1 of 1 in use, 0 free, needed 1") as short:
        scale(ScaleSettings(minimum=1, maximum=2), target=project.target)
    assert "allow_downtime" in short.value.next_step
    assert writes(project) == []
    allowed = ScaleSettings(minimum=1, maximum=2, allow_downtime=True)
    scale(allowed, target=project.target, progress=progress)
    assert writes(project) == ["POST stop", f"PATCH {APP}", "POST start"]
    assert "nothing answers until the new revision is ready" in progress


def test_contradicting_limits_are_invalid() -> None:
    with pytest.raises(InvalidSettings, match="minimum 3 is above maximum 2"):
        ScaleSettings(minimum=3, maximum=2)


class ImpatientTarget(AzureTarget):
    """A target whose changes fail after a short time of conflicts."""

    @property
    def app(self) -> ContainerApp:
        return ContainerApp(self.cloud, self.provisioned, retry_timeout=0.1)


def test_a_refused_change_is_an_error_with_a_next_step(make_project: MakeProject) -> None:
    project = make_project()
    project.double.faults.on("PATCH", f"/containerApps/{APP}$", lock_conflict(), times=1000)
    with pytest.raises(AzureFailed, match="Another operation on the same resource") as busy:
        scale(ScaleSettings(maximum=4), target=ImpatientTarget(project.workspace, Cloud.shared()))
    assert "run the step again" in busy.value.next_step
