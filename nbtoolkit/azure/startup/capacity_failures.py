"""Distinguish starts that failed because Azure had no machine from other failed starts.

Azure reports both with the same error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.startup.activation import Activation, app_hardware
from nbtoolkit.azure.startup.failures import StartupFailure, event_failure, no_capacity, replica_failure
from nbtoolkit.azure.startup.pollers import latest_events
from nbtoolkit.azure.startup.timeline import ASSIGNING, ON_A_MACHINE, StartupEvent, phase_of
from nbtoolkit.errors import NbtoolkitError, ProvisionFailed
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable

ACTIVATION_TIMEOUT = 600.0
"""Seconds after which Azure fails a revision that is not ready."""
_TIMED_OUT = re.compile(r"Operation expired|Deployment Progress Deadline", re.IGNORECASE)


def is_activation_timeout(text: str) -> bool:
    """Return whether Azure reports with this text that replicas were not ready in time, for any cause."""
    return bool(_TIMED_OUT.search(text))


def capacity_failure(app: ContainerApp, poller: AppPoller, seconds: float) -> StartupFailure:
    """Return the failure that Azure assigned no machine for so long, with the quota; up to four requests."""
    activation = Activation(app, poller)
    hardware = app_hardware(app, activation.state)
    label = hardware.label if hardware else activation.state.workload_profile or "Consumption"
    headroom = activation.headroom()
    return no_capacity(seconds, label, sufficient=headroom.sufficient, quota=headroom.text)


def with_replica_details(
    failed: ProvisionFailed,
    app: ContainerApp,
    progress: Progress,
    read_events: Callable[[ContainerApp], Iterable[StartupEvent]] = latest_events,
) -> ProvisionFailed:
    """Return a failed provision's error with the failure of the app's replicas, if there is one."""
    if not is_activation_timeout(str(failed)):
        return failed
    try:
        failure = run_cancellable(progress, lambda: _replicas_failure(app, tuple(read_events(app))))
    except NbtoolkitError:  # the original error stands without details
        return failed
    if failure is None:
        return failed
    return ProvisionFailed(
        f"{failed.message}\n  Its replicas: {failure.reason}.",
        next_step=failure.next_step,
        causes=failed.causes,
        portal_url=failed.portal_url,
    )


def _replicas_failure(app: ContainerApp, events: tuple[StartupEvent, ...]) -> StartupFailure | None:
    newest = next(iter(app.revisions()), None)
    replicas = {one.name: one for one in app.replicas(newest.name)} if newest else {}
    for replica in replicas.values():
        if found := replica_failure(replica, None):
            return found
    if found := event_failure(events, replicas):
        return found
    own_events = [event for event in events if newest and event.replica.startswith(f"{newest.name}-")]
    waiting = {event.replica for event in own_events if event.reason == ASSIGNING}
    assigned = {event.replica for event in own_events if event.reason in ON_A_MACHINE}
    for replica in replicas.values():
        (waiting if phase_of(replica, None)[0] == ASSIGNING else assigned).add(replica.name)
    if newest and waiting and not assigned:  # no replica, including deleted ones, ever got a machine
        waited = (datetime.now(UTC) - newest.created).total_seconds()
        return capacity_failure(app, AppPoller(app), min(ACTIVATION_TIMEOUT, waited))
    return None
