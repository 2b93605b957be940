"""Poll in the background while a start waits: requests that wake the app, and its system events."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self

from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.startup.timeline import StartupEvent
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx

LEASE = 60.0
"""Seconds after the last :meth:`LeasedPoller.extend` until polling ends, so that no GPU is kept running."""
EVENT_INTERVAL = 5.0
"""Seconds between two polls of the events."""
RESPONSE_TIMEOUT = 250.0
"""Seconds for a response; the ingress times out after 240."""
AWAKE_INTERVAL = 60.0
"""Seconds between two requests to an app that is awake: far less than the cooldown."""
MIN_FAILURES = 5
"""Consecutive responses that are not the app's until the endpoint counts as unreachable."""
UNREACHABLE_SECONDS = 120.0
"""Seconds for which the ingress may not know an app that was just created or started."""

Responder = Literal["server", "starting", "refused", "none"]
"""Who responded: the server, the ingress while a replica starts, an IP restriction, or something else."""
_MAX_EVENTS = 100


class LeasedPoller(ABC):
    """Poll from a daemon thread until :meth:`stop`, or until the lease is not extended any more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopped = threading.Event()
        self.extend()

    def start(self) -> Self:
        """Start polling."""
        start_daemon(self._run, name=self._name)
        return self

    def extend(self) -> None:
        """Extend polling by :data:`LEASE` seconds."""
        self._lease_end = time.monotonic() + LEASE

    def stop(self) -> None:
        """Stop polling; a request without a response yet ends in its thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set() and time.monotonic() < self._lease_end:
            self._stopped.wait(self._poll())

    @abstractmethod
    def _poll(self) -> float:
        """Poll once and return the seconds until the next poll."""


class EventPoller(LeasedPoller):
    """Poll the latest system events; there are none while reading fails."""

    def __init__(self, app: ContainerApp) -> None:
        super().__init__("events")
        self._app = app
        self._events: Sequence[StartupEvent] = ()

    def latest(self) -> Sequence[StartupEvent]:
        """Return the latest known events in order, and extend the lease."""
        self.extend()
        return self._events

    def _poll(self) -> float:
        try:
            self._events = latest_events(self._app)
        except NbtoolkitError:  # events are optional, and the next poll may succeed
            return 2 * EVENT_INTERVAL
        return EVENT_INTERVAL


class WakeUpPoller(LeasedPoller):
    """Request ``url``/health until the server responds, then once a minute.

    The ingress holds the first request while it starts a replica, and responds 504 after 240 s; that is not a
    failure. ``last_response`` describes the last response. With ``managed`` only JSON counts as a response
    of the app. Only deploys use this: a request to a sleeping app costs the start of a replica.
    """

    def __init__(
        self,
        url: str,
        *,
        managed: bool = True,
        interval: float = 2.0,
        unreachable_after: float = UNREACHABLE_SECONDS,
    ) -> None:
        import httpx

        super().__init__("wake-up")
        self.url = url
        self._managed = managed
        self._interval = interval
        self._unreachable_after = unreachable_after
        self.last_response = "the first request was sent"
        self.awake = False
        self.ingress_timeouts = 0
        """How often the ingress held a request until it timed out."""
        self.refused = ""
        """Why the ingress refuses this machine's address; empty if it does not."""
        self._failures: list[str] = []
        self._failing_since = 0.0
        self._client = httpx.Client(verify=tls_context())

    def unreachable_reason(self) -> str:
        """Return the responses that came instead of the app's; empty while this may be transient."""
        since = time.monotonic() - self._failing_since
        if len(self._failures) < MIN_FAILURES or since < self._unreachable_after:
            return ""
        return "; ".join(dict.fromkeys(self._failures[-MIN_FAILURES:]))

    def _run(self) -> None:
        with self._client:
            super()._run()

    def _poll(self) -> float:
        self._record(*probe(self._client, f"{self.url}/health", managed=self._managed))
        return AWAKE_INTERVAL if self.awake else self._interval

    def _record(self, responder: Responder, description: str) -> None:
        self.last_response = description
        self.awake = responder == "server"
        if responder == "starting":
            self.ingress_timeouts += 1
        if responder != "none":
            self._failures = []
        else:
            self._failing_since = self._failing_since if self._failures else time.monotonic()
            self._failures = [*self._failures[-MIN_FAILURES:], description]
        self.refused = description if responder == "refused" else ""


def latest_events(app: ContainerApp, progress: Progress | None = None) -> tuple[StartupEvent, ...]:
    """Return the latest system events in order; three requests."""
    from nbtoolkit.azure.logs.stream import app_log

    events = [
        line
        for line in app_log(app, ["system"], tail=_MAX_EVENTS, progress=progress)
        if line.kind == "system"
    ]
    return tuple(StartupEvent(one.source, *one.text.partition(": ")[::2]) for one in events)


def probe(
    client: httpx.Client, url: str, timeout: float = RESPONSE_TIMEOUT, *, managed: bool = False
) -> tuple[Responder, str]:
    """Send one GET request and return who responded, with a description.

    With ``managed`` only JSON counts as the server's: a company's proxy responds with its own pages.
    """
    import httpx

    try:
        response = client.get(url, timeout=httpx.Timeout(timeout, connect=20))
    except httpx.HTTPError as error:
        return "none", f"no answer: {str(error) or type(error).__name__}"
    text = response.text[:200].strip()
    if response.status_code == 504:
        return "starting", "the ingress timed out after 240 s without a replica"
    if response.status_code == 429:  # may come from the server or from anything before it
        return "none", f"HTTP 429: {text}"
    json = "application/json" in response.headers.get("content-type", "")
    if response.status_code in (502, 503) and not json:
        return "none", f"the ingress answered {response.status_code}: {text}"
    if response.status_code == 403 and text.lower().startswith("rbac"):
        return "refused", f"the ingress does not admit this machine's address: {text}"
    if response.status_code == 404 and "container app" in text.lower():
        return "none", "the ingress does not know the app yet, or it is stopped"
    if managed and not json:
        kind = response.headers.get("content-type") or "no content type"
        if response.has_redirect_location:
            kind += f", to {response.url.join(response.headers['location']).host}"
        return "none", f"something before the server answered {response.status_code} ({kind}): {text}"
    return "server", f"it answered {response.status_code}"
