"""The new revision of a changed app: whether a GPU is free for it, and whether it becomes ready."""

from __future__ import annotations

from typing import Any

import pytest

from nbtoolkit.errors import (
    Blocked,
)
from tests.support.provision_project import ProvisionProject
from tests.support.recording_progress import RecordingProgress
from tests.support.wait import wait_until


def test_a_change_without_a_gpu_for_old_and_new_needs_allow_downtime(project: ProvisionProject) -> None:
    project.create_group()
    project.double.apps.quota.limits["SubscriptionConsumptionT4Gpus"] = 1
    gpu: dict[str, Any] = {"gpu": "T4", "min_replicas": 1}
    project.provision(**gpu)
    wait_until(lambda: project.app()["properties"]["latestReadyRevisionName"])
    since = len(project.double.requests)
    with pytest.raises(Blocked, match="no GPU for it next to the running one") as caught:
        project.provision(**gpu, cooldown=300)
    assert "allow_downtime" in caught.value.message
    assert project.writes(since) == []
    planned = project.plan(**gpu, cooldown=300, allow_downtime=True)
    assert "nothing answers for some minutes" in str(planned)
    made = project.provision(**gpu, cooldown=300, allow_downtime=True)
    assert made.note == ""
    posts = [one.path.rpartition("/")[2] for one in project.double.requests[since:] if one.method == "POST"]
    assert [name for name in posts if name in ("stop", "start")] == ["stop", "start"]
    assert project.app()["properties"]["template"]["scale"]["cooldownPeriod"] == 300
    assert project.app()["properties"]["runningStatus"] != "Stopped"


def test_a_new_revision_that_is_not_ready_in_time_is_noted(project: ProvisionProject) -> None:
    project.create_group()
    gpu: dict[str, Any] = {"gpu": "T4", "min_replicas": 1}
    project.provision(**gpu)
    wait_until(lambda: project.app()["properties"]["latestReadyRevisionName"])

    def take_gpu(line: str) -> None:
        if line.startswith("Deploying"):  # another app takes the second one after the plan
            project.double.apps.quota.limits["SubscriptionConsumptionT4Gpus"] = 1

    made = project.provision(**gpu, cooldown=300, ready_timeout=0.5, progress=RecordingProgress(take_gpu))
    assert "is not ready yet" in made.note
    assert "serves meanwhile" in made.note
    assert made.note in str(made)
