"""The phases of starting replicas and their durations."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.revisions import ReplicaState
from nbtoolkit.azure.startup.timeline import StartupEvent, Timeline
from nbtoolkit.serving.share_layout import Heartbeat
from tests.support.replica_states import ManualClock, heartbeat, replica


def test_phases_are_measured_from_arm_and_heartbeats_alone() -> None:
    clock = ManualClock()
    timeline = Timeline(clock=clock)
    steps: list[tuple[float, list[ReplicaState], Heartbeat | None]] = [
        (0, [], None),
        (20, [replica("Waiting", "AssigningReplica")], None),
        (10, [replica("Waiting")], None),
        (5, [replica()], None),
        (7, [replica()], heartbeat("starting")),
        (1, [replica()], heartbeat("loading")),
        (60, [replica()], heartbeat("ready")),
    ]
    summaries: list[str] = []
    for seconds, replicas, beat in steps:
        clock.now += seconds
        timeline.update(replicas, {"a": beat})
        summaries.append(timeline.summary())
    assert summaries[0] == "no replica yet: Requested (Azure shows no replica yet)"
    assert summaries[2].endswith(
        "(the machine pulls the image and mounts the share), after Requested 20 s, AssigningReplica 10 s"
    )
    assert summaries[-1] == ""
    assert str(timeline) == (
        "a: Requested 20 s → AssigningReplica 10 s → PullingImage 5 s → Installing 7 s "
        "→ starting the server 1 s → loading weights 60 s → ready"
    )


def test_events_add_phases_and_reasons() -> None:
    timeline = Timeline()
    waiting = replica("Waiting")
    events = [StartupEvent("a", "PullingImage"), StartupEvent("a", "FailedMount", "MountVolume no")]
    timeline.update([waiting], {}, events)
    assert timeline.summary() == "a: PullingImage (MountVolume no)"
    timeline.update([waiting], {}, [StartupEvent("a", "AssigningReplica")])
    assert "AssigningReplica" in timeline.summary()


def test_old_replicas_are_not_part_of_a_start() -> None:
    timeline = Timeline(old=["a"])
    timeline.update([replica(), replica("Waiting", name="b")], {"a": heartbeat("ready")})
    assert "a:" not in timeline.summary()
    assert "b: PullingImage" in timeline.summary()


def test_summary_of_a_long_phase_changes_every_half_minute() -> None:
    clock = ManualClock()
    timeline = Timeline(clock=clock)
    lines = set[str]()
    for _ in range(65):
        timeline.update([replica("Waiting", "AssigningReplica")], {})
        lines.add(timeline.summary())
        clock.now += 1
    assert len(lines) == 3
    assert timeline.longest_wait("AssigningReplica") == 65


def test_time_without_a_replica_does_not_count_as_assigning() -> None:
    clock = ManualClock()
    timeline = Timeline(clock=clock)
    clock.now += 1000
    timeline.update([], {})
    assert timeline.longest_wait("AssigningReplica") == 0
    timeline.update([replica("Waiting", "AssigningReplica")], {})
    assert timeline.longest_wait("AssigningReplica") == 0
