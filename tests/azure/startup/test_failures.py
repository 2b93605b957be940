"""Lasting trouble of a start, told from passing trouble, with its cause and what to do."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.models import ReplicaState, RevisionState
from nbtoolkit.azure.container_apps.replica_poller import AppSnapshot
from nbtoolkit.azure.startup.activation import RolloutRoom
from nbtoolkit.azure.startup.capacity_failures import with_replica_details
from nbtoolkit.azure.startup.failures import no_machine, of_events, of_replica, of_revision
from nbtoolkit.azure.startup.monitor import StartupMonitor
from nbtoolkit.azure.startup.timeline import StartupEvent, Timeline
from nbtoolkit.azure.startup.wake_up import WakeUpPoller
from nbtoolkit.errors import ProvisionFailed, ServerFailed
from nbtoolkit.progress import Progress
from tests.azure.startup.test_monitor import NOW, Clock, Ingress, ingress, replica

__all__ = ["ingress"]


def look_of(*replicas: ReplicaState, revision: RevisionState | None = None) -> AppSnapshot:
    found = revision or RevisionState("r", True, NOW, 1, "None", "Provisioned", "Activating")
    return AppSnapshot((found,), {found.name: replicas})


class Quiet:
    """No events, no heartbeats, and one look."""

    def __init__(self, look: AppSnapshot) -> None:
        self.seen = look

    def look(self, *, fresh: bool = False) -> AppSnapshot:
        return self.seen

    def of(self, replica: str) -> None:
        return None

    def start(self) -> Quiet:
        return self

    def latest(self) -> tuple[StartupEvent, ...]:
        return ()

    def end(self) -> None:
        """Nothing to end."""


def starting(
    monkeypatch: pytest.MonkeyPatch, look: AppSnapshot, capacity_seconds: float, app: Any = None
) -> StartupMonitor:
    quiet: Any = Quiet(look)
    app = app or app_of()
    monkeypatch.setattr("nbtoolkit.azure.startup.monitor.EventPoller", lambda _: quiet)
    return StartupMonitor(
        app, quiet, quiet, before=AppSnapshot(), replaced=False, capacity_seconds=capacity_seconds
    )


def until_trouble(start: StartupMonitor, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        start.check()
        time.sleep(0.02)


def test_a_replica_that_ends_again_and_again_is_a_crash_loop_and_one_that_did_before_is_not() -> None:
    assert of_replica(replica("Waiting", "CrashLoopBackOff", restarts=2), None) is None
    crashed = of_replica(replica("Waiting", "CrashLoopBackOff", restarts=3), "no such package")
    assert crashed is not None
    assert crashed.reason == "a ended 3 times in a row: no such package"
    assert of_replica(replica("Waiting", "CrashLoopBackOff", restarts=9), None, restarts_before=8) is None
    assert of_replica(replica("Waiting", "OOMKilled", restarts=1), None) is not None


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
def test_what_keeps_a_replica_from_starting_is_named_with_what_to_do(
    details: str, reason: str, step: str
) -> None:
    found = of_replica(replica("Waiting", details), None)
    assert found is not None
    assert reason in found.reason
    assert step in found.next_step


def test_one_failed_mount_may_pass_and_three_do_not() -> None:
    living = {"a": replica("Waiting")}
    failed = StartupEvent("a", "FailedMount", "MountVolume.SetUp failed : Permission denied")
    assert of_events([failed, failed], living) is None
    found = of_events([failed, failed, failed], living)
    assert found is not None
    assert "rotated" in found.reason
    assert of_events([failed] * 3, {"a": replica()}) is None
    assert of_events([failed] * 3, {}) is None


def test_a_revision_that_azure_gave_up_says_why() -> None:
    def revision(provisioning: str, running: str, error: str | None = None) -> RevisionState:
        return RevisionState("r", True, NOW, 0, "None", provisioning, running, error)

    assert of_revision(revision("Provisioning", "Activating")) is None
    given_up = of_revision(
        revision("Failed", "ActivationFailed", "Deployment Progress Deadline Exceeded. 0/1")
    )
    assert given_up is not None
    assert "Deadline Exceeded" in given_up.reason
    assert "ten minutes" in given_up.next_step


def test_no_machine_is_a_matter_of_quota_or_of_capacity() -> None:
    assert "no capacity" in no_machine(660, "A100", enough=True, room="1 of 2").reason
    assert "gpu='T4'" in no_machine(660, "A100", enough=None, room="unknown").next_step
    used_up = no_machine(660, "A100", enough=False, room="2 of 2 in use")
    assert "for 11 minutes: the quota is used up (2 of 2 in use)" in used_up.reason


def test_an_endpoint_that_cannot_be_reached_is_named_with_what_came_back(
    ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtoolkit.azure.startup.wake_up._PAUSE", 0.01)
    monkeypatch.setattr("nbtoolkit.azure.startup.wake_up.UNREACHED", 0.1)
    Ingress.line = [(403, "text/html", "<html>Blocked by Example Corp")]
    start = starting(monkeypatch, AppSnapshot(), capacity_seconds=0)
    start.wake(WakeUpPoller(ingress))
    assert "Requested" in start.doing() or start.doing().startswith("the endpoint")
    with pytest.raises(ServerFailed, match="Blocked by Example Corp") as failed:
        until_trouble(start)
    assert "no request from here reaches it" in str(failed.value)
    assert "capacity" not in str(failed.value)
    assert ingress in failed.value.next_step
    assert "the endpoint: something before the server answered 403 (text/html)" in start.doing()

    running = starting(monkeypatch, look_of(replica()), capacity_seconds=600)
    running.wake(WakeUpPoller(ingress))
    until_trouble(running, seconds=0.4)  # a replica starts: the heartbeats tell how it goes
    running.end()


GAVE_UP = RevisionState(
    "tones--r",
    True,
    NOW,
    0,
    "None",
    "Failed",
    "ActivationFailed",
    "Deployment Progress Deadline Exceeded. 0/1",
)


def machines(monkeypatch: pytest.MonkeyPatch) -> None:
    now: Any = SimpleNamespace(
        state=SimpleNamespace(environment_id="env", workload_profile="gpu"),
        room=lambda: RolloutRoom(True, "1 of 2 in use"),
    )
    monkeypatch.setattr("nbtoolkit.azure.startup.capacity_failures.Activation", lambda *_: now)


def app_of(*replicas: ReplicaState) -> Any:
    profiles = {"gpu": "Consumption-GPU-NC24-A100"}
    return SimpleNamespace(
        provisioned=ResourceNames("sub", "group", "account", "share", "tones", None),
        environment=lambda _: SimpleNamespace(profiles=profiles),
        revisions=lambda: [GAVE_UP],
        replicas=lambda _: list(replicas),
    )


@pytest.mark.parametrize(
    ("waited", "pulled", "reason"),
    [(500, 10, r"no machine \(A100, 80 GB, serverless\) for 8 minutes"), (10, 500, "Deadline Exceeded")],
)
def test_azures_deadline_is_lack_of_a_machine_where_most_time_went_into_looking_for_one(
    monkeypatch: pytest.MonkeyPatch, waited: float, pulled: float, reason: str
) -> None:
    machines(monkeypatch)
    clock = Clock()
    start = starting(monkeypatch, AppSnapshot(), capacity_seconds=600, app=app_of())
    start.timeline = Timeline(clock=clock)
    start.timeline.see([replica("Waiting", "AssigningReplica")], {})
    clock.now += waited
    start.timeline.see([replica("Waiting")], {})
    clock.now += pulled
    start.timeline.see([replica("Waiting")], {})
    seen: Any = start._watch  # pyright: ignore[reportPrivateUsage]
    seen.seen = AppSnapshot((GAVE_UP,), {})
    with pytest.raises(ServerFailed, match=reason):
        start.check()


UNREADY = ProvisionFailed(
    "The deployment failed:\n  tones: not ready (Azure: Operation expired.)", next_step="see", causes=[1]
)


@pytest.mark.parametrize(
    ("replicas", "events", "reason", "step"),
    [
        ([replica("Waiting", "AssigningReplica", name="tones--r-1")], [], "has no capacity", "gpu='T4'"),
        ([], [StartupEvent("tones--r-1", "AssigningReplica")], "has no capacity", "gpu='T4'"),
        ([replica("Waiting", "ImagePullBackOff", name="tones--r-1")], [], "cannot be pulled", "registry"),
        (
            [],
            [StartupEvent("tones--r-1", "AssigningReplica"), StartupEvent("tones--r-1", "PullingImage")],
            None,
            "see",
        ),
        (
            [],
            [StartupEvent("tones--old-1", "AssigningReplica"), StartupEvent("tones", "RevisionFailed")],
            None,
            "see",
        ),
    ],
)
def test_a_provision_whose_replicas_did_not_start_says_why(
    monkeypatch: pytest.MonkeyPatch,
    replicas: list[ReplicaState],
    events: list[StartupEvent],
    reason: str | None,
    step: str,
) -> None:
    machines(monkeypatch)
    said = with_replica_details(UNREADY, app_of(*replicas), Progress(), lambda _: events)
    assert step in said.next_step
    assert "Operation expired" in said.message
    assert getattr(said, "causes", None) == [1]
    assert (said is UNREADY) == (reason is None)
    assert (reason or "") in said.message


def test_a_provision_that_failed_otherwise_is_left_as_it_is() -> None:
    other = ProvisionFailed("The quota is used up.", next_step="see", causes=[])
    assert (
        with_replica_details(other, app_of(), Progress(), lambda _: pytest.fail("nobody need be asked"))
        is other
    )
