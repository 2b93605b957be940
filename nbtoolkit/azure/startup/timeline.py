"""Phases of starting replicas with their durations, from ARM states, heartbeats and system events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nbtoolkit.azure.container_apps.revisions import ReplicaState
from nbtoolkit.serving.share_layout import Heartbeat

REQUESTED = "Requested"
ASSIGNING = "AssigningReplica"
PULLING = "PullingImage"
INSTALLING = "Installing"
STARTING = "starting the server"
LOADING = "loading weights"
READY = "ready"
FAILED = "failed"

_DESCRIPTIONS = {
    REQUESTED: "Azure shows no replica yet",
    ASSIGNING: "Azure searches for a free machine",
    PULLING: "the machine pulls the image and mounts the share",
    INSTALLING: "packages are installed on the replica's local disk",
    LOADING: "the engine reads the base model from the share",
}
_EVENT_PHASES = {
    "AssigningReplica": ASSIGNING,
    "SuccessfulCreate": PULLING,
    "PullingImage": PULLING,
    "PulledImage": PULLING,
    "ContainerCreated": INSTALLING,
    "ContainerStarted": INSTALLING,
}
ON_A_MACHINE = frozenset(_EVENT_PHASES) - {ASSIGNING} | {"FailedMount", "ContainerBackOff"}
"""Reasons of system events that only a replica with a machine has."""
_HEARTBEAT_PHASES = {
    "starting": STARTING,
    "loading": LOADING,
    "restarting": LOADING,
    "ready": READY,
    "failed": FAILED,
    "draining": READY,
    "stopped": READY,
}
_REPORT_INTERVAL = 30.0
_MIN_SHOWN = 0.5
NO_REPLICA = "no replica yet"


@dataclass(frozen=True)
class StartupEvent:
    """One system event of a replica: its ``reason``, such as ``PullingImage``, and its message."""

    replica: str
    reason: str
    message: str = ""


@dataclass
class ReplicaStart:
    """The current phase of one replica, its start time, and the seconds of earlier phases."""

    phase: str
    since: float
    reason: str = ""
    done: dict[str, float] = field(default_factory=dict[str, float])


class Timeline:
    """Measure the phases of starting replicas, each from the first update that shows it.

    ARM's replica states and the heartbeats are enough; system events add detail.
    """

    def __init__(self, old: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """Ignore the replicas named in ``old``, which started before."""
        self._clock = clock
        self._created = clock()
        self._starts: dict[str, ReplicaStart] = {}
        self._old = frozenset(old)

    def update(
        self,
        replicas: Iterable[ReplicaState],
        heartbeats: Mapping[str, Heartbeat | None],
        events: Iterable[StartupEvent] = (),
    ) -> None:
        """Record the current phase of each replica."""
        last_events = {event.replica: event for event in events}
        now = self._clock()
        found = [one for one in replicas if one.name not in self._old]
        if not found and not self._starts:
            self._starts[NO_REPLICA] = ReplicaStart(REQUESTED, self._created)
        if found and NO_REPLICA in self._starts:  # the first replica inherits the time without one
            self._starts[found[0].name] = self._starts.pop(NO_REPLICA)
        for replica in found:
            phase, reason = phase_of(replica, heartbeats.get(replica.name), last_events.get(replica.name))
            start = self._starts.setdefault(replica.name, ReplicaStart(phase, now))
            start.reason = reason
            if phase != start.phase:
                start.done[start.phase] = start.done.get(start.phase, 0.0) + now - start.since
                start.phase, start.since = phase, now

    def longest_wait(self, phase: str) -> float:
        """Return the seconds of the replica that has been in a phase for the longest time."""
        now = self._clock()
        return max((now - one.since for one in self._starts.values() if one.phase == phase), default=0.0)

    def dominant_seconds(self, phase: str) -> float:
        """Return the seconds spent in a phase, 0 if that is less than half of the total."""
        spent = sum(seconds for _, name, seconds in self.rows() if name == phase)
        return spent if 2 * spent > sum(seconds for _, _, seconds in self.rows()) else 0.0

    def summary(self) -> str:
        """Return the current phases as text that changes with each phase and every 30 seconds."""
        return "; ".join(
            self._line(name, start) for name, start in self._starts.items() if start.phase != READY
        )

    def rows(self) -> list[tuple[str, str, float]]:
        """Return replica, phase and seconds, one row for each phase."""
        now, rows = self._clock(), list[tuple[str, str, float]]()
        for name, start in self._starts.items():
            rows += [(name, phase, seconds) for phase, seconds in start.done.items()]
            if start.phase not in (READY, FAILED):
                rows.append((name, start.phase, now - start.since))
        return rows

    def __str__(self) -> str:
        lines: dict[str, list[str]] = {}
        for name, phase, seconds in self.rows():
            if seconds >= _MIN_SHOWN:
                lines.setdefault(name, []).append(f"{phase} {seconds:.0f} s")
        for name, start in self._starts.items():
            if start.phase in (READY, FAILED):
                lines.setdefault(name, []).append(start.phase)
        return "\n".join(f"{name}: {' → '.join(parts)}" for name, parts in lines.items())

    def _line(self, name: str, start: ReplicaStart) -> str:
        reason = start.reason or _DESCRIPTIONS.get(start.phase, "")
        waited = int((self._clock() - start.since) // _REPORT_INTERVAL * _REPORT_INTERVAL)
        parts = [
            f"{name}: {start.phase}",
            f" ({reason})" if reason else "",
            f" for {waited} s" if waited else "",
        ]
        if start.done:
            done = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in start.done.items())
            parts.append(f", after {done}")
        return "".join(parts)


def phase_of(
    replica: ReplicaState, beat: Heartbeat | None, event: StartupEvent | None = None
) -> tuple[str, str]:
    """Return a replica's phase, and the reason from Azure or its heartbeat for not being further."""
    if beat and (replica.running or not replica.restarts):  # newer than ARM's state
        return _HEARTBEAT_PHASES[beat.phase], beat.last_error or ""
    if replica.running:
        return INSTALLING, ""
    reasons = replica.reasons
    states = {container.state for container in replica.containers}
    if event and event.reason in ("FailedMount", "ContainerBackOff"):
        return PULLING, event.message
    if event and event.reason in _EVENT_PHASES and not replica.restarts:
        return _EVENT_PHASES[event.reason], "" if reasons == ASSIGNING else reasons
    if not replica.containers or ASSIGNING in reasons or states == {"Unknown"}:
        return ASSIGNING, "" if reasons == ASSIGNING else reasons
    return PULLING, reasons
