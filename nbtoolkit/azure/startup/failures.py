"""Tell when replicas will not become healthy by waiting: the cause and what to do, out of Azure's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nbtoolkit.azure.container_apps.models import ReplicaState, RevisionState
from nbtoolkit.azure.startup.timeline import StartupEvent

CRASHES = 3
"""So many ends of one container in a row are a crash loop."""
FAILURES = 3
"""So many failed mounts or pulls of one replica in a row are no passing trouble."""


@dataclass(frozen=True)
class Trouble:
    """Why replicas do not start, and what to do."""

    reason: str
    next_step: str


_LOOK_AT_LOG = "correct what the log names (target.logs()), then deploy again"
_MOUNT_STEPS = (
    (
        re.compile(r"permission denied|error\(13\)|EACCES", re.IGNORECASE),
        "the storage account refuses the key that the environment mounts with: it was rotated, or shared-key "
        "access or the storage firewall was changed",
        "repair(): it gives the environment the present key, or says why no key helps",
    ),
    (
        re.compile(r"no such file|error\(2\)|ENOENT|not found", re.IGNORECASE),
        "the file share does not exist any more",
        "provision() again: it makes the share, then deploy again",
    ),
)
_IMAGE = re.compile(
    r"ImagePull|ErrImage|pull(ing)? image.*(fail|error)|failed to pull|manifest unknown", re.IGNORECASE
)
_CRASH = re.compile(r"CrashLoopBackOff|Persistent Failure|OOMKilled|exit code", re.IGNORECASE)
_MOUNT = re.compile(r"MountVolume|FailedMount|mount error|mount failed", re.IGNORECASE)


def is_mount_failure(text: str) -> bool:
    """Tell whether Azure says with this that a share could not be mounted."""
    return bool(_MOUNT.search(text))


def of_revision(revision: RevisionState) -> Trouble | None:
    """Return why Azure gave a revision up, None where it did not."""
    states = {revision.provisioning_state.lower(), revision.running_state.lower()}
    if not states & {"failed", "activationfailed"}:
        return None
    said = revision.error or "Azure gives no reason"
    step = _LOOK_AT_LOG
    if "deadline" in said.lower():
        step = (
            "its replicas were not ready within about ten minutes: see target.logs(); a large base model may "
            "need a faster share, a smaller one or nf4"
        )
    return Trouble(f"Azure gave up the revision {revision.name}: {said}", step)


def of_replica(replica: ReplicaState, error: str | None, restarts_before: int = 0) -> Trouble | None:
    """Return why a replica will not start, None while it may; ``error`` is what it last said itself."""
    details = "; ".join(d for d in (replica.details, *(c.details for c in replica.containers)) if d)
    if _IMAGE.search(details):
        return _pull(details, replica.name)
    if found := _mount(details, replica.name):
        return found
    crashed = replica.restarts - restarts_before
    if crashed >= CRASHES or (crashed and "OOMKilled" in details):
        why = error or (details if _CRASH.search(details) else "it says no reason")
        return Trouble(f"{replica.name} ended {crashed} times in a row: {why}", _LOOK_AT_LOG)
    return None


def of_events(events: Iterable[StartupEvent], living: Mapping[str, ReplicaState]) -> Trouble | None:
    """Return what the system events of a replica that has not started name as the lasting cause."""
    found: dict[str, list[str]] = {}
    for event in events:
        text = f"{event.reason}: {event.message}"
        replica = living.get(event.replica)
        if replica and not any(one.state == "Running" for one in replica.containers):
            if _MOUNT.search(text) or _IMAGE.search(text):
                found.setdefault(event.replica, []).append(text)
            elif event.reason == "ContainerStarted":
                found.pop(event.replica, None)
    for name, texts in found.items():
        if len(texts) >= FAILURES:
            return _mount(texts[-1], name) or _pull(texts[-1], name)
    return None


def no_machine(seconds: float, hardware: str, *, enough: bool | None, room: str) -> Trouble:
    """Say why a replica stays in AssigningReplica: the quota is used up, or Azure has no capacity."""
    waited = f"Azure has assigned no machine ({hardware}) for {seconds / 60:.0f} minutes"
    if enough is False:
        return Trouble(
            f"{waited}: the quota is used up ({room})",
            "stop what uses the GPUs, raise the quota, or deploy with allow_downtime=True",
        )
    return Trouble(
        f"{waited}: it has no capacity for one in this region now, though the quota would allow it ({room})",
        "try again later; or provision with gpu='T4', or in another region",
    )


def unreached(app: str, url: str, said: str) -> Trouble:
    """Say that no request from here gets to an app that only a request starts."""
    return Trouble(
        f"no replica of {app} starts, since no request from here reaches it: {said}",
        f"see that this kernel may open {url} (proxy, firewall, name resolution, certificates), then deploy "
        "again; or provision with min_replicas=1, so that it runs without a request",
    )


def _pull(details: str, name: str) -> Trouble:
    return Trouble(
        f"the image of {name} cannot be pulled: {' '.join(details.split())[:400]}",
        "correct the image or its registry's sign-in with provision(); Docker Hub may limit pulls",
    )


def _mount(details: str, name: str) -> Trouble | None:
    if not _MOUNT.search(details):
        return None
    said = " ".join(details.split())[:400]
    for pattern, cause, step in _MOUNT_STEPS:
        if pattern.search(details):
            return Trouble(f"{name} cannot mount the share: {cause} ({said})", step)
    return Trouble(
        f"{name} cannot mount the share: {said}",
        "see that the share exists and the storage account lets the environment in, then provision() again",
    )
