"""The start of replicas phase by phase, put together from what Azure, the share and the logs say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from nbtoolkit.azure.container_apps.models import ReplicaState
from nbtoolkit.serving.share_layout import Heartbeat

REQUESTED = "Requested"
ASSIGNING = "AssigningReplica"
PULLING = "PullingImage"
INSTALLING = "Installing"
STARTING = "starting the server"
LOADING = "loading weights"
READY = "ready"
FAILED = "failed"

_MEANS = {
    REQUESTED: "Azure shows no replica yet",
    ASSIGNING: "Azure looks for a free machine",
    PULLING: "the machine fetches the image and mounts the share",
    INSTALLING: "packages go onto the replica's own disk",
    LOADING: "the engine reads the base model from the share",
}
_EVENTS = {
    "AssigningReplica": ASSIGNING,
    "SuccessfulCreate": PULLING,
    "PullingImage": PULLING,
    "PulledImage": PULLING,
    "ContainerCreated": INSTALLING,
    "ContainerStarted": INSTALLING,
}
ON_A_MACHINE = frozenset(_EVENTS) - {ASSIGNING} | {"FailedMount", "ContainerBackOff"}
"""The reasons of system events of a replica that Azure has given a machine."""
_BEATS = {
    "starting": STARTING,
    "loading": LOADING,
    "restarting": LOADING,
    "ready": READY,
    "failed": FAILED,
    "draining": READY,
    "stopped": READY,
}
_TOLD_AGAIN = 30.0
_WORTH_TELLING = 0.5
NOBODY = "no replica yet"


@dataclass(frozen=True)
class StartupEvent:
    """One system event of a replica: its ``reason``, such as ``PullingImage``, and its message."""

    replica: str
    reason: str
    message: str = ""


@dataclass
class Start:
    """How far one replica is: the phase, since when, and how long the earlier ones took, in seconds."""

    phase: str
    since: float
    reason: str = ""
    done: dict[str, float] = field(default_factory=dict[str, float])


class Timeline:
    """Follow the starts of replicas; times are measured here, from the first look that showed a phase on.

    It needs nothing but ARM's replica states and the heartbeats; system events, where there are any, only
    make it finer.
    """

    def __init__(self, old: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """``old`` names replicas that started before and are not looked at."""
        self._clock = clock
        self._begun = clock()
        self._starts: dict[str, Start] = {}
        self._old = frozenset(old)

    def see(
        self,
        replicas: Iterable[ReplicaState],
        beats: Mapping[str, Heartbeat | None],
        events: Iterable[StartupEvent] = (),
    ) -> None:
        """Take in one look at everything."""
        said = {event.replica: event for event in events}  # the last one counts
        now = self._clock()
        found = [one for one in replicas if one.name not in self._old]
        if not found and not self._starts:
            self._starts[NOBODY] = Start(REQUESTED, self._begun)
        if found and NOBODY in self._starts:  # what it waited for is the first one's
            self._starts[found[0].name] = self._starts.pop(NOBODY)
        for replica in found:
            phase, reason = phase_of(replica, beats.get(replica.name), said.get(replica.name))
            start = self._starts.setdefault(replica.name, Start(phase, now))
            start.reason = reason
            if phase != start.phase:
                start.done[start.phase] = start.done.get(start.phase, 0.0) + now - start.since
                start.phase, start.since = phase, now

    def waits(self, phase: str) -> float:
        """Return for how many seconds the replica that is longest in a phase has been in it."""
        now = self._clock()
        return max((now - one.since for one in self._starts.values() if one.phase == phase), default=0.0)

    def mostly(self, phase: str) -> float:
        """Return the seconds that were spent in a phase, 0 where less than half of all time was."""
        spent = sum(seconds for _, name, seconds in self.rows() if name == phase)
        return spent if 2 * spent > sum(seconds for _, _, seconds in self.rows()) else 0.0

    def doing(self) -> str:
        """Return what is going on now in words that change with each phase, and each half minute."""
        return "; ".join(
            self._line(name, start) for name, start in self._starts.items() if start.phase != READY
        )

    def rows(self) -> list[tuple[str, str, float]]:
        """Return replica, phase and its seconds, one row for each phase that was seen."""
        now, rows = self._clock(), list[tuple[str, str, float]]()
        for name, start in self._starts.items():
            rows += [(name, phase, seconds) for phase, seconds in start.done.items()]
            if start.phase not in (READY, FAILED):
                rows.append((name, start.phase, now - start.since))
        return rows

    def __str__(self) -> str:
        lines: dict[str, list[str]] = {}
        for name, phase, seconds in self.rows():
            if seconds >= _WORTH_TELLING:
                lines.setdefault(name, []).append(f"{phase} {seconds:.0f} s")
        for name, start in self._starts.items():
            if start.phase in (READY, FAILED):
                lines.setdefault(name, []).append(start.phase)
        return "\n".join(f"{name}: {' → '.join(parts)}" for name, parts in lines.items())

    def _line(self, name: str, start: Start) -> str:
        reason = start.reason or _MEANS.get(start.phase, "")
        waited = int((self._clock() - start.since) // _TOLD_AGAIN * _TOLD_AGAIN)
        parts = [
            f"{name}: {start.phase}",
            f" ({reason})" if reason else "",
            f" for {waited} s" if waited else "",
        ]
        if start.done:
            took = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in start.done.items())
            parts.append(f", after {took}")
        return "".join(parts)


def phase_of(
    replica: ReplicaState, beat: Heartbeat | None, event: StartupEvent | None = None
) -> tuple[str, str]:
    """Return a replica's phase and Azure's or its own reason for not being further."""
    states = {container.state for container in replica.containers}
    if beat and ("Running" in states or not replica.restarts):  # its own word comes before ARM's
        return _BEATS[beat.phase], beat.last_error or ""
    if "Running" in states:
        return INSTALLING, ""
    details = "; ".join(
        dict.fromkeys(d for d in (replica.details, *(c.details for c in replica.containers)) if d)
    )
    if event and event.reason in ("FailedMount", "ContainerBackOff"):
        return PULLING, event.message
    if event and event.reason in _EVENTS and not replica.restarts:
        return _EVENTS[event.reason], "" if details == ASSIGNING else details
    if not replica.containers or ASSIGNING in details or states == {"Unknown"}:
        return ASSIGNING, "" if details == ASSIGNING else details
    return PULLING, details
