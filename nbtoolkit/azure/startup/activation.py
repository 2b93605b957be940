"""Bring the servers of an app to a published release with the smallest change that is needed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.capacity.quota import quota_headroom
from nbtoolkit.azure.container_apps.app import ContainerApp, OnPoll, stopped
from nbtoolkit.azure.container_apps.managed_app import is_managed
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.resource_id import QUOTA_PAGE, parse_location
from nbtoolkit.azure.startup.failures import revision_failure
from nbtoolkit.azure.startup.timeline import ASSIGNING, phase_of
from nbtoolkit.errors import QuotaShort
from nbtoolkit.progress import Progress
from nbtoolkit.serving.release import Release
from nbtoolkit.utils.threads import run_cancellable

ActivationMethod = Literal["none", "wake_up", "restart", "revision", "downtime"]
"""How servers get to a release: they read the new pointer without help (``none``); a request wakes the app;
a restart of a revision that does not serve yet; a new revision next to the old one; a new revision after the
old one was stopped."""

REPLICA_END_TIMEOUT = 120.0
"""Seconds for the replicas of an old revision to end, with their open requests."""


@dataclass(frozen=True)
class RolloutHeadroom:
    """Whether a new revision finds machines next to the old one; None if Azure does not report it."""

    sufficient: bool | None
    text: str


class Activation:
    """Choose and run the activation of one release, from the state of the app at construction.

    Costs the requests of one snapshot, and one more without ``state``.
    """

    def __init__(self, app: ContainerApp, poller: AppPoller, state: AppState | None = None) -> None:
        self._app = app
        self.state = state or app.get()
        self.snapshot = poller.snapshot(fresh=True)

    def choose_method(self, *, restart: bool, allow_downtime: bool, progress: Progress) -> ActivationMethod:
        """Return the method; two requests for the quota if a new revision is needed.

        Raises :class:`QuotaShort` if only a downtime helps and it is not allowed.
        """
        if self.state.stopped or not self.snapshot.live:
            return "wake_up"
        if _holds_needed_machines(self.state, self.snapshot) and (restart or _has_failed(self.snapshot)):
            return "restart"
        if not restart:
            return "none"
        if not is_managed(self.state):
            return "restart"  # the owner of the template makes its revisions; only files on the share changed
        headroom = self._wait_for_headroom(progress)
        if headroom.sufficient is not False:
            progress.note(f"a new revision starts next to the old one; {headroom.text}")
            return "revision"
        if allow_downtime:
            progress.note(
                f"{headroom.text}: the app stops first; nothing answers until the new server is ready"
            )
            return "downtime"
        raise QuotaShort(
            f"The release needs a restart, and the quota allows no new server next to the running one: "
            f"{headroom.text}.",
            next_step="allow_downtime=True stops the running server first, and nothing answers for the "
            f"minutes that the new one takes to start; or raise the quota: {QUOTA_PAGE}",
            code="NoRoomForTwoRevisions",
        )

    def run(self, method: ActivationMethod, release: Release, progress: Progress, on_poll: OnPoll) -> None:
        """Activate the release; returns when Azure has done its part, often long before a server is ready.

        ``on_poll`` is called while Azure starts something; an error that it raises ends the wait.
        """
        latest = self.snapshot.latest
        starts = method == "downtime" or (method == "wake_up" and self.state.stopped)
        if method == "downtime":
            progress.phase("Stopping the app; nothing answers until the new server is ready")
        with stopped(self._app, progress, on_poll) if method == "downtime" else nullcontext():
            # Azure starts no replica of a failed revision
            if method == "revision" or (method != "restart" and latest and revision_failure(latest)):
                progress.phase(f"Starting a new revision for {release.id}")
                self._app.new_revision(release.id, progress, on_poll)
            elif method == "restart" and latest:
                progress.phase(f"Restarting {latest.name}")
                self._app.restart(latest.name, progress)
            if starts:
                progress.phase(f"Starting the app for {release.id}")
        if starts and method == "wake_up":
            self._app.start(progress, on_poll)

    def headroom(self) -> RolloutHeadroom:
        """Return whether there are machines for a new revision next to the running one. Two requests."""
        app, live = self.state, len(self.snapshot.live)
        environment = self._app.environment(app.environment_id)
        profile = environment.profiles.get(app.workload_profile or "Consumption", "Consumption")
        hardware = profile_hardware(profile)
        if hardware is None or not hardware.has_gpu:
            return RolloutHeadroom(True, "it needs no GPU")
        replicas = max(1, app.min_replicas, min(live, app.max_replicas))
        if not hardware.serverless:
            limit = environment.machine_limits.get(app.workload_profile, 0)
            free = limit - live
            return RolloutHeadroom(free >= replicas, f"{free} of the environment's {limit} machines are free")
        needed = replicas * hardware.gpus
        subscription = parse_location(app.environment_id).subscription
        quota = quota_headroom(self._app.cloud, subscription, environment.location, hardware)
        return RolloutHeadroom(quota.has(needed), f"{quota}, needed {needed}")

    def _wait_for_headroom(self, progress: Progress) -> RolloutHeadroom:
        """Return the headroom; wait for replicas that are ending, since their machines become free."""
        headroom = RolloutHeadroom(None, "")

        def is_final() -> bool:
            nonlocal headroom
            headroom = run_cancellable(progress, self.headroom)
            if headroom.sufficient is not False:
                return True
            revisions = run_cancellable(progress, self._app.revisions)
            ending = [one.name for one in revisions if not one.active and one.replicas]
            if ending:
                progress.note(f"{headroom.text}; waiting for the replicas of {', '.join(ending)} to end")
            return not ending

        progress.wait_until(is_final, timeout=REPLICA_END_TIMEOUT, interval=2.0)
        return headroom


def choose_revision_method(
    app: ContainerApp, state: AppState, *, allow_downtime: bool, progress: Progress
) -> ActivationMethod:
    """Return how a new revision can start; raises :class:`QuotaShort` if it takes downtime."""
    activation = run_cancellable(progress, lambda: Activation(app, AppPoller(app), state))
    return activation.choose_method(restart=True, allow_downtime=allow_downtime, progress=progress)


def change_template(
    app: ContainerApp, method: ActivationMethod, reason: str, changes: Mapping[str, Any], progress: Progress
) -> None:
    """Start a revision whose template differs by ``changes``; with ``downtime`` the app stops first.

    The app is started again also if the change fails or is cancelled.
    """
    if method == "downtime":
        progress.phase("Stopping the app; nothing answers until the new revision is ready")
    with stopped(app, progress) if method == "downtime" else nullcontext():
        progress.phase("Starting a new revision")
        app.new_revision(reason, progress, changes=changes)


def app_hardware(app: ContainerApp, state: AppState | None = None) -> GpuProfile | None:
    """Return the machine of the app's workload profile, None if it is unknown; two requests.

    Without a GPU its memory is the memory limit of the app's container.
    """
    state = state or app.get()
    name = state.workload_profile or "Consumption"
    hardware = profile_hardware(app.environment(state.environment_id).profiles.get(name, name))
    if hardware is None or hardware.has_gpu:
        return hardware
    return replace(hardware, memory=int(state.memory or hardware.memory))


def profile_hardware(profile_type: str) -> GpuProfile | None:
    """Return the machine of a workload profile type, None if it is unknown."""
    return next((one for one in GPU_PROFILES.values() if one.profile_type == profile_type), None)


def _holds_needed_machines(app: AppState, snapshot: AppSnapshot) -> bool:
    """Return whether the newest revision has replicas and was never ready: a restart reuses these."""
    latest = snapshot.latest
    if latest is None or revision_failure(latest):
        return False
    if app.latest_ready_revision != latest.name:
        return any(phase_of(one, None)[0] != ASSIGNING for one in snapshot.latest_replicas)
    return len(snapshot.revisions) == 1 and all(one.restarts and not one.ready for one in snapshot.live)


def _has_failed(snapshot: AppSnapshot) -> bool:
    """Return whether a replica of the newest revision has failed.

    A replica that still starts reads the newest pointer: a restart would only cost its minutes again.
    """
    return any(one.restarts for one in snapshot.latest_replicas)
