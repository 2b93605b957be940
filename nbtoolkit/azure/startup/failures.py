"""Recognise replicas that will not become ready, with the cause and the next step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nbtoolkit.azure.container_apps.revisions import ReplicaState, RevisionState
from nbtoolkit.azure.startup.timeline import StartupEvent

MAX_CRASHES = 3
"""Consecutive ends of one container that count as a crash loop."""
MAX_EVENT_FAILURES = 3
"""Consecutive failed mounts or pulls of one replica that count as permanent."""


@dataclass(frozen=True)
class StartupFailure:
    """Why replicas do not start, and the next step."""

    reason: str
    next_step: str


_READ_LOG = "correct what the log names (target.logs()), then deploy again"
_CRASH = re.compile(r"CrashLoopBackOff|Persistent Failure|OOMKilled|exit code", re.IGNORECASE)
_MOUNT = re.compile(r"MountVolume|FailedMount|mount error|mount failed", re.IGNORECASE)
_IMAGE = re.compile(
    r"ImagePull|ErrImage|pull(ing)? image.*(fail|error)|failed to pull|manifest unknown", re.IGNORECASE
)
_CAUSES = (
    (
        (_IMAGE,),
        "the image of {name} cannot be pulled: {details}",
        "correct the image or its registry's sign-in with provision(); Docker Hub may limit pulls",
    ),
    (
        (_MOUNT, re.compile(r"permission denied|error\(13\)|EACCES", re.IGNORECASE)),
        "{name} cannot mount the share: the storage account refuses the key that the environment mounts "
        "with: it was rotated, or shared-key access or the storage firewall was changed ({details})",
        "repair(): it writes the current key into the environment, or reports why no key helps",
    ),
    (
        (_MOUNT, re.compile(r"no such file|error\(2\)|ENOENT|not found", re.IGNORECASE)),
        "{name} cannot mount the share: the file share does not exist any more ({details})",
        "provision() again: it creates the share, then deploy again",
    ),
    (
        (_MOUNT,),
        "{name} cannot mount the share: {details}",
        "check that the share exists and the storage account admits the environment, then provision() again",
    ),
)
"""Patterns that must all match Azure's details → reason and next step; the first match counts."""


def is_mount_failure(text: str) -> bool:
    """Return whether Azure reports with this text that a share could not be mounted."""
    return bool(_MOUNT.search(text))


def revision_failure(revision: RevisionState) -> StartupFailure | None:
    """Return why Azure failed a revision, None if it did not."""
    states = {revision.provisioning_state.lower(), revision.running_state.lower()}
    if not states & {"failed", "activationfailed"}:
        return None
    cause = revision.error or "Azure gives no reason"
    step = _READ_LOG
    if "deadline" in cause.lower():
        step = (
            "its replicas were not ready within about ten minutes: see target.logs(); a large base model may "
            "need a faster share, a smaller one or nf4"
        )
    return StartupFailure(f"Azure gave up the revision {revision.name}: {cause}", step)


def replica_failure(
    replica: ReplicaState, last_error: str | None, restarts_before: int = 0
) -> StartupFailure | None:
    """Return why a replica will not start, None while it still may.

    ``last_error`` is from its heartbeat; ``restarts_before`` happened before this start.
    """
    details = replica.reasons
    if found := _pull_or_mount_failure(details, replica.name):
        return found
    crashes = replica.restarts - restarts_before
    if crashes >= MAX_CRASHES or (crashes and "OOMKilled" in details):
        cause = last_error or (details if _CRASH.search(details) else "no reason is known")
        return StartupFailure(f"{replica.name} ended {crashes} times in a row: {cause}", _READ_LOG)
    return None


def event_failure(events: Iterable[StartupEvent], live: Mapping[str, ReplicaState]) -> StartupFailure | None:
    """Return the permanent cause in the system events of a live replica that has not started."""
    failures: dict[str, list[str]] = {}
    for event in events:
        text = f"{event.reason}: {event.message}"
        replica = live.get(event.replica)
        if replica and not replica.running:
            if _MOUNT.search(text) or _IMAGE.search(text):
                failures.setdefault(event.replica, []).append(text)
            elif event.reason == "ContainerStarted":
                failures.pop(event.replica, None)
    for name, texts in failures.items():
        if len(texts) >= MAX_EVENT_FAILURES:
            return _pull_or_mount_failure(texts[-1], name)
    return None


def no_capacity(seconds: float, hardware: str, *, sufficient: bool | None, quota: str) -> StartupFailure:
    """Return why a replica stays in AssigningReplica: the quota is used up, or Azure has no capacity."""
    waited = f"Azure has assigned no machine ({hardware}) for {seconds / 60:.0f} minutes"
    if sufficient is False:
        return StartupFailure(
            f"{waited}: the quota is used up ({quota})",
            "stop what uses the GPUs, raise the quota, or deploy with allow_downtime=True",
        )
    return StartupFailure(
        f"{waited}: it has no capacity for one in this region now, though the quota would allow it ({quota})",
        "try again later; or provision with gpu='T4', or in another region",
    )


def _pull_or_mount_failure(details: str, name: str) -> StartupFailure | None:
    shown = " ".join(details.split())[:400]
    for patterns, reason, next_step in _CAUSES:
        if all(pattern.search(details) for pattern in patterns):
            return StartupFailure(reason.format(name=name, details=shown), next_step)
    return None
