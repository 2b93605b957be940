"""Monitor replicas from activation until they serve: their phases, and failures that are permanent."""

from __future__ import annotations

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.resource_id import portal_url
from nbtoolkit.azure.startup.capacity_failures import capacity_failure, is_activation_timeout
from nbtoolkit.azure.startup.failures import (
    StartupFailure,
    event_failure,
    replica_failure,
    revision_failure,
)
from nbtoolkit.azure.startup.heartbeats import Heartbeats
from nbtoolkit.azure.startup.pollers import EventPoller, WakeUpPoller
from nbtoolkit.azure.startup.timeline import ASSIGNING, Timeline
from nbtoolkit.errors import ServerFailed
from nbtoolkit.progress import Progress

CAPACITY_SECONDS = 600.0
"""Seconds in AssigningReplica that count as lack of capacity."""


class StartupMonitor:
    """Monitor one start. ``before`` is the app before it, ``replaced`` whether its replicas are replaced.

    System events make the timeline more detailed; ARM and the heartbeats are enough without them.
    """

    def __init__(
        self,
        app: ContainerApp,
        poller: AppPoller,
        heartbeats: Heartbeats,
        *,
        before: AppSnapshot,
        replaced: bool,
        capacity_seconds: float = CAPACITY_SECONDS,
        events: EventPoller | None = None,
    ) -> None:
        self._app = app
        self._poller = poller
        self._heartbeats = heartbeats
        self._wake_up: WakeUpPoller | None = None
        self._events = (events or EventPoller(app)).start()
        self._capacity_seconds = capacity_seconds
        self._restarts_before = {replica.name: replica.restarts for replica in before.live}
        self._failed_before = {one.name for one in before.revisions if revision_failure(one)}
        self._last_errors: dict[str, str] = {}
        self._reported = ""
        self._finished = False
        self.replaced = frozenset(one.name for one in before.live) if replaced else frozenset[str]()
        """The replicas that end with this start; their heartbeats and responses do not count."""
        self.timeline = Timeline(old=self.replaced)

    def send_wake_ups(self, wake_up: WakeUpPoller) -> None:
        """Wake the app with requests, and keep it awake as long as :meth:`check` is called."""
        self._wake_up = wake_up.start()

    def report(self, progress: Progress) -> None:
        """Check as :meth:`check` does, and note the summary if it changed."""
        self.check()
        if (summary := self.summary()) != self._reported:
            self._reported = summary
            progress.note(summary)

    def check(self) -> None:
        """Update the timeline; raise :class:`ServerFailed` on a permanent failure, with the next step."""
        if self._wake_up:
            self._wake_up.extend()
        failure = self._update(fresh=False) and self._update(fresh=True)  # confirm with a new snapshot
        if failure:
            self.stop()
            raise ServerFailed(f"{failure.reason}.", next_step=failure.next_step, reason=failure.reason)

    def summary(self) -> str:
        """Return the current phases with Azure's reasons, and the last response of the endpoint."""
        wake_up = self._wake_up
        response = f"the endpoint: {wake_up.last_response}" if wake_up and not wake_up.awake else ""
        return "; ".join(part for part in (self.timeline.summary(), response) if part)

    def finish(self) -> None:
        """Complete the timeline after a successful start; users' requests keep the app awake from now on."""
        if not self._finished:
            live = self._poller.snapshot().live
            self.timeline.update(live, {one.name: self._heartbeats.read(one.name) for one in live})
            self.stop()

    def stop(self) -> None:
        """Stop polling events and sending requests, so that the app can scale to zero again."""
        self._finished = True
        self._events.stop()
        if self._wake_up:
            self._wake_up.stop()

    def _update(self, *, fresh: bool) -> StartupFailure | None:
        """Update the timeline and return the first failure that is permanent."""
        snapshot = self._poller.snapshot(fresh=fresh)
        live = {replica.name: replica for replica in snapshot.live}
        heartbeats = {name: self._heartbeats.read(name) for name in live}
        events = self._events.latest()
        self.timeline.update(live.values(), heartbeats, events)
        latest = snapshot.latest
        if latest and latest.name not in self._failed_before and (found := revision_failure(latest)):
            # Azure fails every start after ten minutes and gives no cause
            waited = self.timeline.dominant_seconds(ASSIGNING) if is_activation_timeout(found.reason) else 0.0
            return capacity_failure(self._app, self._poller, waited) if waited else found
        for name, replica in live.items():
            beat = heartbeats[name]
            if beat and beat.last_error:  # the next start of the container may delete it from the share
                self._last_errors[name] = beat.last_error
            restarts_before = self._restarts_before.get(name, 0)
            if found := replica_failure(replica, self._last_errors.get(name), restarts_before):
                return found
        if found := event_failure(events, live):
            return found
        if (waited := self.timeline.longest_wait(ASSIGNING)) > self._capacity_seconds:
            return capacity_failure(self._app, self._poller, waited)
        return self._find_unreachable()

    def _find_unreachable(self) -> StartupFailure | None:
        wake_up, provisioned = self._wake_up, self._app.provisioned
        if wake_up is None:
            return None
        if wake_up.refused:
            return StartupFailure(
                wake_up.refused, "add this machine's address to allowedIpRanges and provision() again"
            )
        unreachable = wake_up.unreachable_reason()
        if not (unreachable or wake_up.ingress_timeouts) or self._poller.snapshot(fresh=True).live:
            return None
        if unreachable:
            return StartupFailure(
                f"no replica of {provisioned.app} starts, since no request from here reaches it: "
                f"{unreachable}",
                f"check that this kernel can open {wake_up.url} (proxy, firewall, name resolution, "
                "certificates), then deploy again; or provision with min_replicas=1, so that it runs without "
                "a request",
            )
        return StartupFailure(
            f"no replica of {provisioned.app} starts, although a request waited for one until the ingress "
            "timed out",
            f"check the app in the portal: {portal_url(provisioned.app_id)}",
        )
