"""Wake an app that sleeps, and keep it awake while a deploy waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from nbtoolkit.utils.tls import tls_context

if TYPE_CHECKING:
    import httpx

LEASE = 60.0
"""Seconds until a waker that nobody asks about any more ends, so that it never keeps a GPU running."""
HELD = 250.0
"""Seconds for an answer; the ingress gives up after 240."""
_PAUSE = 2.0
_AGAIN = 60.0
"""Seconds between two requests once something answers: far less than the cooldown."""
_ANSWERS = 5
"""So many answers in a row that do not come from the app, over ``UNREACHED`` seconds, are no chance."""
UNREACHED = 120.0
"""Seconds for which an app that was just made or started may be unknown to its own ingress."""

Answer = Literal["server", "starting", "refused", "none"]


class WakeUpPoller:
    """Ask ``url``/health from a thread of its own until something answers, and now and then from then on.

    The ingress holds the first request while it starts a replica, and answers 504 after 240 s; that is no
    failure. ``said`` is the last answer in words. With ``ours`` only our server's JSON counts as an answer
    of the app. Only deploys use it: any request costs what a start costs.
    """

    def __init__(self, url: str, *, ours: bool = True) -> None:
        import httpx

        self.url = url
        self._ours = ours
        self.said = "the first request is on its way"
        self.awake = False
        self.gave_up = 0
        """How often the ingress held a request to its limit."""
        self.refused = ""
        """Why the ingress lets nobody through, where it says so."""
        self._strangers: list[str] = []
        self._strange_since = 0.0
        self._client = httpx.Client(verify=tls_context())
        self._ended = threading.Event()
        self._until = time.monotonic() + LEASE
        self._thread = threading.Thread(target=self._run, name="nbtoolkit-waker", daemon=True)

    def start(self) -> WakeUpPoller:
        """Begin to ask."""
        self._thread.start()
        return self

    def keep(self) -> None:
        """Go on for another minute."""
        self._until = time.monotonic() + LEASE

    def end(self) -> None:
        """Ask no more; a request that is held ends by itself."""
        self._ended.set()

    def unreached(self) -> str:
        """Return what came back instead of the app's answers, an empty text where that may pass."""
        if len(self._strangers) < _ANSWERS or time.monotonic() - self._strange_since < UNREACHED:
            return ""
        return "; ".join(dict.fromkeys(self._strangers[-_ANSWERS:]))

    def _run(self) -> None:
        with self._client:
            while not self._ended.is_set() and time.monotonic() < self._until:
                self._note(ask(self._client, f"{self.url}/health", ours=self._ours))
                self._ended.wait(_AGAIN if self.awake else _PAUSE)

    def _note(self, answer: tuple[Answer, str]) -> None:
        kind, self.said = answer
        self.awake = kind == "server"
        if kind == "starting":
            self.gave_up += 1
        if kind != "none":
            self._strangers = []
        else:
            self._strange_since = self._strange_since if self._strangers else time.monotonic()
            self._strangers = [*self._strangers[-_ANSWERS:], self.said]
        self.refused = self.said if kind == "refused" else ""


def ask(client: httpx.Client, url: str, timeout: float = HELD, *, ours: bool = False) -> tuple[Answer, str]:
    """Get a page once and tell who answered: the server, or somebody before it because there is none yet.

    ``ours`` takes only JSON for the server's: a company's proxy answers with pages of its own.
    """
    import httpx

    try:
        response = client.get(url, timeout=httpx.Timeout(timeout, connect=20))
    except httpx.HTTPError as error:
        return "none", f"no answer: {str(error) or type(error).__name__}"
    text = response.text[:200].strip()
    if response.status_code == 504:
        return "starting", "the ingress waited for a replica to its limit of 240 s"
    if response.status_code == 429:  # whoever says so: it tells nothing of a server
        return "none", f"it answered 429: {text}"
    json = "application/json" in response.headers.get("content-type", "")
    if response.status_code in (502, 503) and not json:
        return "none", f"the ingress answered {response.status_code}: {text}"
    if response.status_code == 403 and text.lower().startswith("rbac"):
        return "refused", f"the ingress lets this machine's address not through: {text}"
    if response.status_code == 404 and "container app" in text.lower():
        return "none", "the ingress does not know the app yet, or it is stopped"
    if ours and not json:
        kind = response.headers.get("content-type") or "no content type"
        where = (
            f", to {response.url.join(response.headers['location']).host}"
            if response.has_redirect_location
            else ""
        )
        return "none", f"something before the server answered {response.status_code} ({kind}{where}): {text}"
    return "server", f"it answered {response.status_code}"
