"""Whether a changed app finds a machine beside the one that runs, and whether its new revision starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm.existing_resources import ExistingResources
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.portal_urls import QUOTA_PAGE
from nbtoolkit.azure.startup.activation import Activation
from nbtoolkit.azure.startup.timeline import phase_of
from nbtoolkit.errors import QuotaShort
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning.settings import ProvisionSettings
from nbtoolkit.utils.threads import run_cancellable

RETRY_TIMEOUT = 60.0
"""Seconds that a new revision is waited for; one that loads an image takes longer and is only told of."""


@dataclass(frozen=True)
class RolloutCapacity:
    """Whether the app stops for the change, or why there is no room for it."""

    downtime: bool = False
    blockers: tuple[str, ...] = ()


def beside_of(
    settings: ProvisionSettings, existing: ExistingResources, profile: str, cloud: Cloud, progress: Progress
) -> RolloutCapacity:
    """Return how a change of the app that makes a new revision can start; a few requests.

    On another machine than now the preflight's look at the quota tells it.
    """
    if existing.app is None or AppState(existing.app).workload_profile != profile:
        return RolloutCapacity()
    app = ContainerApp(cloud, existing.names)
    here = run_cancellable(progress, lambda: Activation(app, AppPoller(app)))
    try:
        way = here.choose_method(restart=True, allow_downtime=settings.allow_downtime, progress=progress)
    except QuotaShort:
        return _short(existing.names, run_cancellable(progress, here.headroom).text)
    if way != "restart":
        return RolloutCapacity(downtime=way == "downtime")
    room = run_cancellable(
        progress, here.headroom
    )  # a revision that never got ready holds what the new one needs
    if room.sufficient is not False or settings.allow_downtime:
        return RolloutCapacity(downtime=room.sufficient is False)
    return _short(existing.names, room.text)


def unready(app: ContainerApp, progress: Progress) -> str:
    """Return why the newest revision does not serve yet, as a sentence, "" where it does.

    Waits a minute at most.
    """
    watch = AppPoller(app)
    deadline = time.monotonic() + RETRY_TIMEOUT
    progress.phase("Waiting for the new revision")
    while True:
        state = run_cancellable(progress, app.get)
        if state.stopped or state.latest_revision == state.latest_ready_revision:
            return ""
        replicas = run_cancellable(progress, lambda: watch.snapshot(fresh=True)).latest_replicas
        phases = [" ".join(filter(None, phase_of(one, None))) for one in replicas]
        reason = "; ".join(dict.fromkeys(phases)) or "no replica of it runs yet"
        if time.monotonic() >= deadline:
            break
        progress.note(reason)
        progress.sleep(sdk.POLL_INTERVAL)
    old = state.latest_ready_revision
    meanwhile = f"{old} serves meanwhile" if old else "nothing serves meanwhile"
    return f"The new revision {state.latest_revision} is not ready yet ({reason}); {meanwhile}."


def _short(names: ResourceNames, room: str) -> RolloutCapacity:
    return RolloutCapacity(
        blockers=(
            f"The change of the app {names.app} starts a new revision, and there is no machine for it beside "
            f"the running one ({room}): set allow_downtime, which stops the app first, so that nothing "
            f"answers for some minutes; or raise the quota: {QUOTA_PAGE}",
        )
    )
