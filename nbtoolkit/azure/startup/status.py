"""Build the status of an Azure target from ARM and the share, without a request to the app."""

from __future__ import annotations

from collections.abc import Mapping

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.azure.startup.failures import replica_failure, revision_failure
from nbtoolkit.azure.startup.heartbeats import age_of
from nbtoolkit.azure.startup.timeline import READY, phase_of
from nbtoolkit.filestore import FileStore
from nbtoolkit.releases import publisher
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetState, TargetStatus


def build_status(
    target: str,
    provisioned: ResourceNames,
    app: AppState,
    snapshot: AppSnapshot,
    heartbeats: Mapping[str, Heartbeat | None],
    store: FileStore,
) -> TargetStatus:
    """Return the status of the app; ``heartbeats`` are those of its live replicas."""
    pointer = publisher.active_pointer(store)
    custom = pointer is not None and publisher.read_release(store, pointer.release).code.kind == "own"
    published = pointer.release if pointer else None
    state, summary = _condition(app, snapshot, heartbeats, published, custom=custom)
    found = [beat for beat in heartbeats.values() if beat]
    facts = {"replicas": _replicas(app, snapshot, heartbeats)}
    adapters = {name: sha for beat in found for name, sha in beat.adapters.items()}
    facts |= {f"adapter {name}": f"sha256 {sha256[:16]}…" for name, sha256 in adapters.items()}
    if errors := {beat.last_error for beat in found if beat.last_error}:
        facts["last error"] = "; ".join(sorted(errors))
    if pointer:
        facts["published"] = f"{pointer.release} at {pointer.at:%Y-%m-%d %H:%M} UTC by {pointer.by}"
    facts["portal"] = portal_url(provisioned.app_id)
    serving = {beat.release for beat in found if beat.release}
    return TargetStatus(
        target,
        state,
        summary,
        url=f"https://{app.host}" if app.host else provisioned.endpoint,
        release=serving.pop() if len(serving) == 1 else None,
        facts=facts,
    )


def _condition(
    app: AppState,
    snapshot: AppSnapshot,
    heartbeats: Mapping[str, Heartbeat | None],
    published: str | None,
    *,
    custom: bool,
) -> tuple[TargetState, str]:
    if app.provisioning_state.lower() == "failed":
        return "failed", "Azure could not provision the app: see the portal"
    if app.stopped:
        return "stopped", "the app is stopped: no request wakes it; deploy() or rollback() starts it again"
    found = [beat for beat in heartbeats.values() if beat]
    serving = [beat for beat in found if beat.phase == READY]
    bad: TargetState = "degraded" if serving else "failed"
    if snapshot.latest and (failure := revision_failure(snapshot.latest)):
        return bad, failure.reason
    if not snapshot.live:
        return "asleep", "no replica runs and none is billed; a request wakes it within minutes"
    for replica in snapshot.live:
        beat = heartbeats.get(replica.name)
        if failure := replica_failure(replica, beat and beat.last_error):
            return bad, failure.reason
    if custom:
        if any(replica.ready for replica in snapshot.live):
            return "ready", "it listens; its answers are not proven"
        return "starting", "its start commands run"
    if failed := next((beat.failed for beat in found if beat.failed), None):
        return bad, f"release {failed.release} is not served: {failed.error}"
    if published is None:
        return "starting", "the container waits for a first deploy()"
    if serving and (pending := next((beat.pending for beat in serving if beat.pending), None)):
        return "degraded", f"release {pending} waits for a restart: deploy again, or rollback()"
    if len(serving) == len(snapshot.live):
        return "ready", "it answers"
    phases = [phase_of(replica, heartbeats.get(replica.name)) for replica in snapshot.live]
    starting = "; ".join(
        sorted({f"{phase} ({reason})" if reason else phase for phase, reason in phases if phase != READY})
    )
    return ("ready", f"it answers; another replica: {starting}") if serving else ("starting", starting)


def _replicas(app: AppState, snapshot: AppSnapshot, heartbeats: Mapping[str, Heartbeat | None]) -> str:
    limits = f"from {app.min_replicas} to {app.max_replicas}"
    if not snapshot.live:
        return f"none; {limits}"
    beats = [(one.name, heartbeats.get(one.name)) for one in snapshot.live]
    shown = [
        f"{name} ({beat.phase}, {max(0, int(age_of(beat)))} s ago)" if beat else f"{name} (no heartbeat yet)"
        for name, beat in beats
    ]
    return f"{', '.join(shown)}; {limits}"
