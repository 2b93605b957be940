"""Tell starts that failed for want of a machine from others: Azure says the same of both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.models import ReplicaState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.startup.activation import Activation, machine_of
from nbtoolkit.azure.startup.event_poller import latest_events
from nbtoolkit.azure.startup.failures import Trouble, no_machine, of_events, of_replica
from nbtoolkit.azure.startup.timeline import ASSIGNING, ON_A_MACHINE, StartupEvent, phase_of
from nbtoolkit.errors import NbtoolkitError, ProvisionFailed
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable

GIVES_UP = 600.0
"""Seconds after which Azure gives up a revision that is not ready."""
_GAVE_UP = re.compile(r"Operation expired|Deployment Progress Deadline", re.IGNORECASE)


def is_given_up(text: str) -> bool:
    """Tell whether Azure says with this that replicas were not ready in time, of whatever cause."""
    return bool(_GAVE_UP.search(text))


def no_machine_now(app: App, watch: AppPoller, seconds: float) -> Trouble:
    """Return that Azure assigned no machine for so long, with the quota as it is; up to four requests."""
    now = Activation(app, watch)
    found = machine_of(app, now.state)
    label = found.label if found else now.state.workload_profile or "Consumption"
    room = now.room()
    return no_machine(seconds, label, enough=room.enough, room=room.text)


def with_replica_details(
    failed: ProvisionFailed,
    app: App,
    progress: Progress,
    events: Callable[[App], Iterable[StartupEvent]] = latest_events,
) -> ProvisionFailed:
    """Return the failure of a provision with what the app's replicas tell of it, where they tell anything."""
    if not is_given_up(str(failed)):
        return failed
    try:
        trouble = run_cancellable(progress, lambda: _of_replicas(app, tuple(events(app))))
    except NbtoolkitError:  # what Azure said of it is known, and stands
        return failed
    if trouble is None:
        return failed
    return ProvisionFailed(
        f"{failed.message}\n  Its replicas: {trouble.reason}.",
        next_step=trouble.next_step,
        causes=failed.causes,
        portal_url=failed.portal_url,
    )


def _of_replicas(app: App, events: tuple[StartupEvent, ...]) -> Trouble | None:
    newest = next(iter(app.revisions()), None)
    replicas = {one.name: one for one in app.replicas(newest.name)} if newest else {}
    for replica in replicas.values():
        if found := of_replica(replica, None):
            return found
    if found := of_events(events, replicas):
        return found
    if newest and _assigned_none(newest.name, replicas.values(), events):
        waited = (datetime.now(UTC) - newest.created).total_seconds()
        return no_machine_now(app, AppPoller(app), min(GIVES_UP, waited))
    return None


def _assigned_none(revision: str, replicas: Iterable[ReplicaState], events: Iterable[StartupEvent]) -> bool:
    """Tell whether none of a revision's replicas, those that are gone too, ever got a machine."""
    told = [event for event in events if event.replica.startswith(f"{revision}-")]
    waits = {event.replica for event in told if event.reason == ASSIGNING}
    got_one = {event.replica for event in told if event.reason in ON_A_MACHINE}
    for replica in replicas:
        (waits if phase_of(replica, None)[0] == ASSIGNING else got_one).add(replica.name)
    return bool(waits) and not got_one
