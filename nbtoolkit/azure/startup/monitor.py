"""Watch over replicas from their activation until they serve: where they are, and whether they will."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.models import ReplicaState
from nbtoolkit.azure.container_apps.replica_poller import AppPoller, AppSnapshot
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.azure.startup.capacity_failures import is_given_up, no_machine_now
from nbtoolkit.azure.startup.event_poller import EventPoller
from nbtoolkit.azure.startup.failures import Trouble, of_events, of_replica, of_revision, unreached
from nbtoolkit.azure.startup.heartbeats import Heartbeats
from nbtoolkit.azure.startup.timeline import ASSIGNING, StartupEvent, Timeline
from nbtoolkit.azure.startup.wake_up import WakeUpPoller
from nbtoolkit.errors import ServerFailed
from nbtoolkit.progress import Progress
from nbtoolkit.serving.share_layout import Heartbeat

CAPACITY_SECONDS = 600.0
"""After so long in AssigningReplica, Azure has no machine to give."""


class StartupMonitor:
    """One start. ``before`` is what ran when it began, ``timeline`` is where the new replicas are.

    System events make it finer where they can be read; ARM and the heartbeats do without.
    """

    def __init__(
        self,
        app: App,
        watch: AppPoller,
        beats: Heartbeats,
        *,
        before: AppSnapshot,
        replaced: bool,
        capacity_seconds: float = CAPACITY_SECONDS,
    ) -> None:
        self._app = app
        self._watch = watch
        self._beats = beats
        self._waker: WakeUpPoller | None = None
        self._events = EventPoller(app).start()
        self._capacity_seconds = capacity_seconds
        self._restarts = {replica.name: replica.restarts for replica in before.living}
        self._given_up = {one.name for one in before.revisions if of_revision(one)}
        self._errors: dict[str, str] = {}
        self._told = ""
        self._over = False
        self.replaced = frozenset(one.name for one in before.living) if replaced else frozenset[str]()
        """The replicas that go: what they do or answer is none of the new ones'."""
        self.timeline = Timeline(old=self.replaced)

    def wake(self, waker: WakeUpPoller) -> None:
        """Have requests wake the app, and keep it awake as long as :meth:`check` is called."""
        self._waker = waker.start()

    def tell(self, progress: Progress) -> None:
        """Take a look as :meth:`check` does, and note what is going on where that changed."""
        self.check()
        if (doing := self.doing()) != self._told:
            self._told = doing
            progress.note(doing)

    def check(self) -> None:
        """Take a look; raise :class:`ServerFailed`, with cause and next step, where waiting is of no use."""
        if self._waker:
            self._waker.keep()
        trouble = self._look(fresh=False) and self._look(fresh=True)  # what was seen may be some seconds old
        if trouble:
            self.end()
            raise ServerFailed(f"{trouble.reason}.", next_step=trouble.next_step, reason=trouble.reason)

    def _look(self, *, fresh: bool) -> Trouble | None:
        look = self._watch.look(fresh=fresh)
        living = {replica.name: replica for replica in look.living}
        beats = {name: self._beats.of(name) for name in living}
        events = self._events.latest()
        self.timeline.see(living.values(), beats, events)
        return self._trouble(look, living, beats, events)

    def doing(self) -> str:
        """Return what is going on, with Azure's reasons, and what requests from here get for an answer."""
        waker = self._waker
        asked = f"the endpoint: {waker.said}" if waker and not waker.awake else ""
        return "; ".join(part for part in (self.timeline.doing(), asked) if part)

    def served(self) -> None:
        """Note that it is over and went well; who uses the endpoint keeps the app awake from now on."""
        if not self._over:
            look = self._watch.look()
            self.timeline.see(look.living, {one.name: self._beats.of(one.name) for one in look.living})
            self.end()

    def end(self) -> None:
        """Let the app fall asleep again when nobody asks."""
        self._over = True
        self._events.end()
        if self._waker:
            self._waker.end()

    def _trouble(
        self,
        look: AppSnapshot,
        living: Mapping[str, ReplicaState],
        beats: Mapping[str, Heartbeat | None],
        events: Sequence[StartupEvent],
    ) -> Trouble | None:
        if look.latest and look.latest.name not in self._given_up and (found := of_revision(look.latest)):
            # Azure gives up after ten minutes of whatever kind, and names no reason
            waited = self.timeline.mostly(ASSIGNING) if is_given_up(found.reason) else 0.0
            return no_machine_now(self._app, self._watch, waited) if waited else found
        for name, replica in living.items():
            beat = beats[name]
            if beat and beat.last_error:  # its next start may delete it from the share
                self._errors[name] = beat.last_error
            if found := of_replica(replica, self._errors.get(name), self._restarts.get(name, 0)):
                return found
        if found := of_events(events, living):
            return found
        if (waited := self.timeline.waits(ASSIGNING)) > self._capacity_seconds:
            return no_machine_now(self._app, self._watch, waited)
        return self._unreachable()

    def _unreachable(self) -> Trouble | None:
        waker, place = self._waker, self._app.provisioned
        if waker is None:
            return None
        if waker.refused:
            return Trouble(
                waker.refused, "add this machine's address to allowedIpRanges and provision() again"
            )
        said = waker.unreached()
        if not (said or waker.gave_up) or self._watch.look(fresh=True).living:
            return None
        if said:
            return unreached(place.app, waker.url, said)
        return Trouble(
            f"no replica of {place.app} starts, though a request waited for one to the ingress's limit",
            f"look at the app in the portal: {portal_url(place.app_id)}",
        )
