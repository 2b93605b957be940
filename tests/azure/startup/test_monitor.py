"""The monitor of a start: permanent failures of the endpoint and of capacity."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nbtoolkit.azure.container_apps.revisions import AppSnapshot, ReplicaState, RevisionState
from nbtoolkit.azure.startup.monitor import StartupMonitor
from nbtoolkit.azure.startup.pollers import WakeUpPoller
from nbtoolkit.azure.startup.timeline import StartupEvent, Timeline
from nbtoolkit.errors import ServerFailed
from tests.azure.startup.conftest import FAILED_REVISION, IngressStub, app_of
from tests.support.replica_states import NOW, ManualClock, replica


def snapshot_of(*replicas: ReplicaState) -> AppSnapshot:
    revision = RevisionState("r", True, NOW, 1, "Provisioned", "Activating")
    return AppSnapshot((revision,), {revision.name: replicas})


class Constant:
    """A poller with one snapshot, no heartbeats and no events."""

    def __init__(self, snapshot: AppSnapshot) -> None:
        self.value = snapshot

    def snapshot(self, *, fresh: bool = False) -> AppSnapshot:
        return self.value

    def read(self, replica: str) -> None:
        return None

    def start(self) -> Constant:
        return self

    def latest(self) -> tuple[StartupEvent, ...]:
        return ()

    def stop(self) -> None:
        """Nothing to stop."""


def monitor_of(poller: Any, capacity_seconds: float) -> StartupMonitor:
    return StartupMonitor(
        app_of(),
        poller,
        poller,
        before=AppSnapshot(),
        replaced=False,
        capacity_seconds=capacity_seconds,
        events=poller,
    )


def check_for(monitor: StartupMonitor, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        monitor.check()
        time.sleep(0.02)


def test_unreachable_endpoint_is_reported_with_its_responses(ingress: IngressStub) -> None:
    ingress.responses = [(403, "text/html", "<html>Blocked by Example Corp")]
    monitor = monitor_of(Constant(AppSnapshot()), capacity_seconds=0)
    monitor.send_wake_ups(WakeUpPoller(ingress.url, interval=0.01, unreachable_after=0.1))
    assert "Requested" in monitor.summary() or monitor.summary().startswith("the endpoint")
    with pytest.raises(ServerFailed, match="Blocked by Example Corp") as failed:
        check_for(monitor)
    assert "no request from here reaches it" in str(failed.value)
    assert "capacity" not in str(failed.value)
    assert ingress.url in failed.value.next_step
    assert "the endpoint: something before the server answered 403 (text/html)" in monitor.summary()

    running = monitor_of(Constant(snapshot_of(replica())), capacity_seconds=600)
    running.send_wake_ups(WakeUpPoller(ingress.url, interval=0.01, unreachable_after=0.1))
    check_for(running, seconds=0.4)  # a replica starts: its heartbeats count
    running.stop()


@pytest.mark.parametrize(
    ("waited", "pulled", "reason"),
    [(500, 10, r"no machine \(A100, 80 GB, serverless\) for 8 minutes"), (10, 500, "Deadline Exceeded")],
)
@pytest.mark.usefixtures("gpu_quota")
def test_activation_timeout_counts_as_lack_of_capacity_if_most_time_was_assigning(
    waited: float, pulled: float, reason: str
) -> None:
    clock = ManualClock()
    poller = Constant(AppSnapshot())
    monitor = monitor_of(poller, capacity_seconds=600)
    monitor.timeline = Timeline(clock=clock)
    monitor.timeline.update([replica("Waiting", "AssigningReplica")], {})
    clock.now += waited
    monitor.timeline.update([replica("Waiting")], {})
    clock.now += pulled
    monitor.timeline.update([replica("Waiting")], {})
    poller.value = AppSnapshot((FAILED_REVISION,), {})
    with pytest.raises(ServerFailed, match=reason):
        monitor.check()
