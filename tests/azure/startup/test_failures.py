"""Permanent failures of replicas and revisions, with the cause and the next step."""

from __future__ import annotations

import pytest

from nbtoolkit.azure.container_apps.revisions import RevisionState
from nbtoolkit.azure.startup.failures import event_failure, no_capacity, replica_failure, revision_failure
from nbtoolkit.azure.startup.timeline import StartupEvent
from tests.support.replica_states import NOW, replica


def test_three_consecutive_ends_are_a_crash_loop_without_those_of_an_earlier_start() -> None:
    assert replica_failure(replica("Waiting", "CrashLoopBackOff", restarts=2), None) is None
    crashed = replica_failure(replica("Waiting", "CrashLoopBackOff", restarts=3), "no such package")
    assert crashed is not None
    assert crashed.reason == "a ended 3 times in a row: no such package"
    earlier = replica("Waiting", "CrashLoopBackOff", restarts=9)
    assert replica_failure(earlier, None, restarts_before=8) is None
    assert replica_failure(replica("Waiting", "OOMKilled", restarts=1), None) is not None


@pytest.mark.parametrize(
    ("details", "reason", "step"),
    [
        ("ImagePullBackOff", "image of a cannot be pulled", "registry"),
        ("MountVolume.SetUp failed: mount error(13): Permission denied", "refuses the key", "repair()"),
        (
            "MountVolume.SetUp failed: mount error(2): No such file or directory",
            "does not exist",
            "provision()",
        ),
        ("MountVolume.SetUp failed: no route", "cannot mount the share", "storage account"),
    ],
)
def test_pull_and_mount_failures_have_a_cause_and_a_next_step(details: str, reason: str, step: str) -> None:
    found = replica_failure(replica("Waiting", details), None)
    assert found is not None
    assert reason in found.reason
    assert step in found.next_step


def test_one_failed_mount_is_transient_and_three_are_permanent() -> None:
    live = {"a": replica("Waiting")}
    failed = StartupEvent("a", "FailedMount", "MountVolume.SetUp failed : Permission denied")
    assert event_failure([failed, failed], live) is None
    found = event_failure([failed, failed, failed], live)
    assert found is not None
    assert "rotated" in found.reason
    assert event_failure([failed] * 3, {"a": replica()}) is None
    assert event_failure([failed] * 3, {}) is None


def test_failed_revision_has_azures_reason() -> None:
    def revision(provisioning: str, running: str, error: str | None = None) -> RevisionState:
        return RevisionState("r", True, NOW, 0, provisioning, running, error)

    assert revision_failure(revision("Provisioning", "Activating")) is None
    failure = revision_failure(
        revision("Failed", "ActivationFailed", "Deployment Progress Deadline Exceeded. 0/1")
    )
    assert failure is not None
    assert "Deadline Exceeded" in failure.reason
    assert "ten minutes" in failure.next_step


def test_no_capacity_distinguishes_quota_and_region() -> None:
    assert "no capacity" in no_capacity(660, "A100", sufficient=True, quota="1 of 2").reason
    assert "gpu='T4'" in no_capacity(660, "A100", sufficient=None, quota="unknown").next_step
    used_up = no_capacity(660, "A100", sufficient=False, quota="2 of 2 in use")
    assert "for 11 minutes: the quota is used up (2 of 2 in use)" in used_up.reason
