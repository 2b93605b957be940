"""The app on Azure is proven by a fresh target; a sleeping app is woken only on request."""

from __future__ import annotations

import pytest

from nbtoolkit import AzureTarget, prove
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import NotProven
from nbtoolkit.widgets import ProveForm
from tests.support.azure_project import APP, MakeProject
from tests.support.recording_progress import RecordingProgress


def test_a_sleeping_app_is_not_proven_and_woken_only_on_request(make_project: MakeProject) -> None:
    project, progress = make_project(), RecordingProgress()
    project.deploy("red")
    target = AzureTarget(project.workspace, Cloud.shared(), poll=0.2)
    project.forget_requests()
    awake = prove(target)
    assert awake.raise_for_failure().state == "proven"
    assert list(awake.replicas.values()) == ["it answered, and all its adapters are proven"]
    assert not awake.cost.woke
    assert not project.arm_writes()

    project.double.apps.scale_to_zero(APP)
    before = project.double.apps.ingress_requests(APP)
    asleep = prove(target)
    assert (bool(asleep), asleep.state, asleep.cost.requests) == (False, "asleep", 0)
    assert "asleep, not proven" in str(asleep)
    with pytest.raises(NotProven, match="asleep") as caught:
        ProveForm(target=target).result().raise_for_failure()
    assert "wake=True" in caught.value.next_step
    assert project.double.apps.ingress_requests(APP) == before

    woken = prove(target, wake=True, progress=progress)
    assert woken.state == "proven"
    assert woken.cost.woke
    assert "it started a replica, which is billed" in str(woken)
    assert any("no replica runs, and a request would start one" in line for line in progress.lines)
