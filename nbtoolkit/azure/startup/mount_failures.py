"""Find replicas that do not start because the file share cannot be mounted."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.startup.event_poller import latest_events
from nbtoolkit.azure.startup.failures import is_mount_failure
from nbtoolkit.progress import Progress


def failed_mounts(app: ContainerApp, progress: Progress) -> list[str]:
    """Return the replicas that Azure cannot start because their mount fails; wakes nothing."""
    waiting = {replica.name for replica in AppPoller(app).snapshot().live if not replica.running}
    if not waiting:
        return []
    failed = {
        event.replica
        for event in latest_events(app, progress)
        if is_mount_failure(f"{event.reason}: {event.message}")
    }
    return sorted(failed & waiting)
