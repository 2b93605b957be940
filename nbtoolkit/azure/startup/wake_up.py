"""Wake an app that is scaled to zero, and keep it awake while a deploy waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from nbtoolkit.utils.threads import start_daemon
from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx

LEASE = 60.0
"""Seconds after the last :meth:`WakeUpPoller.extend` until requests end, so that no GPU is kept running."""
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


class WakeUpPoller:
    """Request ``url``/health from a daemon thread until the server responds, then once a minute.

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

        self.url = url
        self._managed = managed
        self._interval = interval
        self._unreachable_after = unreachable_after
        self.last_response = "the first request is on its way"
        self.awake = False
        self.ingress_timeouts = 0
        """How often the ingress held a request until it timed out."""
        self.refused = ""
        """Why the ingress refuses this machine's address; empty if it does not."""
        self._failures: list[str] = []
        self._failing_since = 0.0
        self._client = httpx.Client(verify=tls_context())
        self._stopped = threading.Event()
        self._lease_end = time.monotonic() + LEASE

    def start(self) -> WakeUpPoller:
        """Start sending requests."""
        start_daemon(self._run, name="wake-up")
        return self

    def extend(self) -> None:
        """Extend the requests by :data:`LEASE` seconds."""
        self._lease_end = time.monotonic() + LEASE

    def stop(self) -> None:
        """Send no more requests; one that the ingress holds ends in its thread."""
        self._stopped.set()

    def unreachable_reason(self) -> str:
        """Return the responses that came instead of the app's; empty while this may be transient."""
        since = time.monotonic() - self._failing_since
        if len(self._failures) < MIN_FAILURES or since < self._unreachable_after:
            return ""
        return "; ".join(dict.fromkeys(self._failures[-MIN_FAILURES:]))

    def _run(self) -> None:
        with self._client:
            while not self._stopped.is_set() and time.monotonic() < self._lease_end:
                self._record(*probe(self._client, f"{self.url}/health", managed=self._managed))
                self._stopped.wait(AWAKE_INTERVAL if self.awake else self._interval)

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
        location = (
            f", to {response.url.join(response.headers['location']).host}"
            if response.has_redirect_location
            else ""
        )
        return (
            "none",
            f"something before the server answered {response.status_code} ({kind}{location}): {text}",
        )
    return "server", f"it answered {response.status_code}"
