"""Bring servers on Azure to a release that is published already, with the least that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.capacity.quota import quota_headroom
from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.downtime import stopped
from nbtoolkit.azure.container_apps.managed_app import is_ours
from nbtoolkit.azure.container_apps.models import AppState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller, AppSnapshot
from nbtoolkit.azure.portal_urls import QUOTA_PAGE
from nbtoolkit.azure.resource_id import place_of
from nbtoolkit.azure.startup.failures import of_revision
from nbtoolkit.azure.startup.timeline import ASSIGNING, phase_of
from nbtoolkit.errors import QuotaShort
from nbtoolkit.progress import Progress
from nbtoolkit.serving.release import Release
from nbtoolkit.utils.threads import run_cancellable

Way = Literal["leave", "wake", "restart", "revision", "downtime"]
"""How servers get to the release: by themselves; by a request; by a restart of a revision that does not serve
yet; by a new revision beside the old one; by stopping the old one first."""


ENDS_WITHIN = 120.0
"""Seconds for the replicas of a former revision to end, with their answers."""
_PAUSE = 2.0


@dataclass(frozen=True)
class RolloutRoom:
    """Whether a new revision finds machines beside the old one: None where Azure does not tell."""

    enough: bool | None
    text: str


class Activation:
    """Decide and do what one release needs of the app, as it is now: making one takes a look at it."""

    def __init__(self, app: App, watch: AppPoller, state: AppState | None = None) -> None:
        self._app = app
        self.state = state or app.get()
        self.look = watch.look(fresh=True)

    def way(self, *, restart: bool, allow_downtime: bool, progress: Progress) -> Way:
        """Return how to get there; two requests for the quota where that counts.

        Raises :class:`QuotaShort` where it takes downtime that is not allowed.
        """
        if self.state.stopped or not self.look.living:
            return "wake"
        if _stuck(self.state, self.look) and (restart or _has_failed(self.look)):
            return "restart"
        if not restart:
            return "leave"
        if not is_ours(self.state):
            return "restart"  # its revisions are its owner's: only what they read from the share is new
        room = self._room_soon(progress)
        if room.enough is not False:
            progress.note(f"a new revision starts beside the old one; {room.text}")
            return "revision"
        if allow_downtime:
            progress.note(f"{room.text}: the app stops first; nothing answers until the new server is ready")
            return "downtime"
        raise QuotaShort(
            f"The release needs a restart, and a new server has no room beside the running one: {room.text}.",
            next_step="allow_downtime=True stops the running server first, and nothing answers for the "
            f"minutes that the new one takes to start; or raise the quota: {QUOTA_PAGE}",
            code="NoRoomForTwoRevisions",
        )

    def go(self, way: Way, release: Release, progress: Progress, meanwhile: Callable[[], None]) -> None:
        """Do it; returns once Azure has done its part, often long before a server is ready.

        ``meanwhile`` is called while Azure starts something; what it raises ends the waiting.
        """
        latest = self.look.latest
        starts = way == "downtime" or (way == "wake" and self.state.stopped)
        if way == "downtime":
            progress.phase("Stopping the app; nothing answers until the new server is ready")
        with stopped(self._app, progress, meanwhile) if way == "downtime" else nullcontext():
            # a revision that Azure gave up starts no replica any more
            if way == "revision" or (way != "restart" and latest and of_revision(latest)):
                progress.phase(f"Starting a new revision for {release.id}")
                self._app.new_revision(release.id, progress, meanwhile)
            elif way == "restart" and latest:
                progress.phase(f"Restarting {latest.name}")
                self._app.restart(latest.name, progress)
            if starts:
                progress.phase(f"Starting the app for {release.id}")
        if starts and way == "wake":
            self._app.start(progress, meanwhile)

    def _room_soon(self, progress: Progress) -> RolloutRoom:
        """Return the room there is; replicas that are ending give theirs back, so they are waited for."""
        deadline = time.monotonic() + ENDS_WITHIN
        while True:
            room = run_cancellable(progress, self.room)
            if room.enough is not False or time.monotonic() >= deadline:
                return room
            revisions = run_cancellable(progress, self._app.revisions)
            ending = [one.name for one in revisions if not one.active and one.replicas]
            if not ending:
                return room
            progress.note(f"{room.text}; waiting for the replicas of {', '.join(ending)} to end")
            progress.sleep(_PAUSE)

    def room(self) -> RolloutRoom:
        """Return whether there are machines for a new revision beside what runs. Two requests."""
        app, look = self.state, self.look
        environment = self._app.environment(app.environment_id)
        profile = environment.profiles.get(app.workload_profile or "Consumption", "Consumption")
        hardware = hardware_of(profile)
        if hardware is None or not hardware.has_gpu:
            return RolloutRoom(True, "it needs no GPU")
        replicas = max(1, app.min_replicas, min(len(look.living), app.max_replicas))
        needed = replicas * hardware.gpus
        if not hardware.serverless:
            machines = environment.machines.get(app.workload_profile or "", 0)
            free = machines - len(look.living)
            return RolloutRoom(free >= replicas, f"{free} of the environment's {machines} machines are free")
        subscription = place_of(app.environment_id).subscription
        room = quota_headroom(self._app.cloud, subscription, environment.location, hardware)
        return RolloutRoom(room.has(needed), f"{room}, needed {needed}")


def machine_of(app: App, state: AppState | None = None) -> GpuProfile | None:
    """Return the machine that the app runs on, None for one that we do not know; two requests.

    Without a GPU it has the memory that the app's container may use.
    """
    state = state or app.get()
    name = state.workload_profile or "Consumption"
    found = hardware_of(app.environment(state.environment_id).profiles.get(name, name))
    if found is None or found.has_gpu:
        return found
    return replace(found, memory=int(state.memory or found.memory))


def hardware_of(profile_type: str) -> GpuProfile | None:
    """Return the machine of a workload profile's type, None for one that we do not know."""
    return next((one for one in GPU_PROFILES.values() if one.profile_type == profile_type), None)


def _stuck(app: AppState, look: AppSnapshot) -> bool:
    """Tell whether the newest revision has replicas and was never ready: it holds what a restart needs."""
    latest = look.latest
    if latest is None or of_revision(latest):
        return False
    if app.latest_ready_revision != latest.name:
        return any(phase_of(one, None)[0] != ASSIGNING for one in look.of_latest())
    return len(look.revisions) == 1 and all(one.restarts and not one.ready for one in look.living)


def _has_failed(look: AppSnapshot) -> bool:
    """Tell whether a replica of the newest revision has failed; one that starts reads the newest pointer.

    To restart that one costs its minutes again, and it may become the one that serves just then.
    """
    return any(one.restarts for one in look.of_latest())
