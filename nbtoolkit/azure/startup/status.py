"""Tell how an Azure target stands, from ARM and the share alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppSnapshot
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.azure.startup.failures import of_replica, of_revision
from nbtoolkit.azure.startup.timeline import READY, phase_of
from nbtoolkit.filestore import FileStore
from nbtoolkit.releases import publisher
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetState, TargetStatus


def describe(
    target: str,
    provisioned: ResourceNames,
    app: AppState,
    look: AppSnapshot,
    beats: Mapping[str, Heartbeat | None],
    store: FileStore,
) -> TargetStatus:
    """Return the status of the app; ``beats`` are its living replicas' heartbeats."""
    pointer = publisher.active_pointer(store)
    own = pointer is not None and publisher.read_release(store, pointer.release).code.kind == "own"
    state, summary = _condition(app, look, beats, pointer.release if pointer else None, own=own)
    facts = {"replicas": _replicas(app, look, beats)}
    adapters = {name: sha for beat in beats.values() if beat for name, sha in beat.adapters.items()}
    facts |= {f"adapter {name}": f"sha256 {sha256[:16]}…" for name, sha256 in adapters.items()}
    if errors := {beat.last_error for beat in beats.values() if beat and beat.last_error}:
        facts["last error"] = "; ".join(sorted(errors))
    if pointer:
        facts["published"] = f"{pointer.release} at {pointer.at:%Y-%m-%d %H:%M} UTC by {pointer.by}"
    facts["portal"] = portal_url(provisioned.app_id)
    serving = {beat.release for beat in beats.values() if beat and beat.release}
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
    look: AppSnapshot,
    beats: Mapping[str, Heartbeat | None],
    published: str | None,
    *,
    own: bool,
) -> tuple[TargetState, str]:
    if app.provisioning_state.lower() == "failed":
        return "failed", "Azure could not provision the app: see the portal"
    if app.stopped:
        return "stopped", "the app is stopped: no request wakes it; deploy() or rollback() starts it again"
    serves = any(beat and beat.phase == READY for beat in beats.values())
    bad: TargetState = "degraded" if serves else "failed"
    if look.latest and (trouble := of_revision(look.latest)):
        return bad, trouble.reason
    if not look.living:
        return "asleep", "nothing runs and nothing is billed by the second; a request wakes it, in minutes"
    for replica in look.living:
        beat = beats.get(replica.name)
        if trouble := of_replica(replica, beat and beat.last_error):
            return bad, trouble.reason
    if own:
        ready = any(replica.ready for replica in look.living)
        return (
            ("ready", "it listens; what it serves is not proven")
            if ready
            else ("starting", "its start commands run")
        )
    return _ours(look, beats, published)


def _ours(
    look: AppSnapshot, beats: Mapping[str, Heartbeat | None], published: str | None
) -> tuple[TargetState, str]:
    said = [beat for beat in beats.values() if beat]
    serving = [beat for beat in said if beat.phase == READY]
    if failed := next((beat.failed for beat in said if beat.failed), None):
        state: TargetState = "degraded" if serving else "failed"
        return state, f"release {failed.release} is not served: {failed.error}"
    if published is None:
        return "starting", "the container waits for a first deploy()"
    if serving and (pending := next((beat.pending for beat in serving if beat.pending), None)):
        return "degraded", f"release {pending} waits for a restart: deploy again, or rollback()"
    if len(serving) == len(look.living):
        return "ready", "it answers"
    phases = [phase_of(replica, beats.get(replica.name)) for replica in look.living]
    doing = "; ".join(
        sorted({f"{phase} ({why})" if why else phase for phase, why in phases if phase != READY})
    )
    return ("ready", f"it answers; another replica: {doing}") if serving else ("starting", doing)


def _replicas(app: AppState, look: AppSnapshot, beats: Mapping[str, Heartbeat | None]) -> str:
    scale = f"from {app.min_replicas} to {app.max_replicas}"
    if not look.living:
        return f"none; {scale}"
    return f"{', '.join(_one(one.name, beats.get(one.name)) for one in look.living)}; {scale}"


def _one(name: str, beat: Heartbeat | None) -> str:
    if beat is None:
        return f"{name} (no heartbeat yet)"
    at = beat.at if beat.at.tzinfo else beat.at.replace(tzinfo=UTC)
    return f"{name} ({beat.phase}, {max(0, int((datetime.now(UTC) - at).total_seconds()))} s ago)"
