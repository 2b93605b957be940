"""Wait until a server is ready, with the reason while it is not, and leave within a moment when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nbtoolkit.endpoint.ingress_errors import HELD
from nbtoolkit.errors import NotReady, RequestRefused
from nbtoolkit.progress import Progress

RETRY_TIMEOUT = 60.0
"""Seconds until a reason that waiting does not change is believed: a new address is unknown for a while."""
_TICK = 0.25
_SLOW = 3.0
"""Seconds after which a request counts as held."""
_LONGEST_PAUSE = 1.0

Failure = NotReady | RequestRefused


def wait_ready(ask: Callable[[], str], url: str, timeout: float, progress: Progress) -> None:
    """Call ``ask`` until it returns an empty text; what it returns or raises is the reason until then.

    It is called in a thread of its own, since a request may be held for minutes: a cancel leaves it behind,
    and it ends by itself. Raises :class:`NotReady` with the last reason.
    """
    deadline, pause, reason = time.monotonic() + timeout, 0.05, ""
    lasting = float("inf")
    while True:
        look = _Look(ask)
        while not look.ended.wait(_TICK):
            progress.check()
            if look.seconds > _SLOW and reason != HELD:
                progress.note(reason := HELD)
            if time.monotonic() >= deadline:
                raise _late(url, timeout, reason or HELD, None)
        found, failure = look.outcome()
        if not found:
            return
        if found != reason:
            progress.note(reason := found)
        hopeless = failure is not None and isinstance(failure, NotReady) and bool(failure.lasting)
        lasting = min(lasting, time.monotonic() + RETRY_TIMEOUT) if hopeless else float("inf")
        if time.monotonic() >= min(deadline, lasting):
            raise _late(url, timeout, reason, failure)
        progress.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 1.5)


class _Look:
    """One question, asked in a thread."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.ended = threading.Event()
        self._ask = ask
        self._began = time.monotonic()
        self._reason = ""
        self._failure: Failure | None = None
        self._broken: Exception | None = None
        threading.Thread(target=self._run, name="nbtoolkit-wait", daemon=True).start()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def outcome(self) -> tuple[str, Failure | None]:
        """Return the reason and its error; raises what is no reason to wait."""
        if self._broken is not None:
            raise self._broken
        return self._reason, self._failure

    def _run(self) -> None:
        try:
            self._reason = self._ask()
        except (NotReady, RequestRefused) as error:
            self._reason = (error.reason if isinstance(error, NotReady) else "") or error.message
            self._failure = error
        except Exception as error:  # noqa: BLE001  raised by outcome(), in the thread that waits
            self._broken = error
        finally:
            self.ended.set()


def _late(url: str, timeout: float, reason: str, failure: Failure | None) -> NotReady:
    knows = isinstance(failure, NotReady) and failure.lasting is not None
    return NotReady(
        f"{url} was not ready within {timeout:g} s: {reason}.",
        next_step=failure.next_step
        if failure and knows
        else "look at the target's status() and logs(), or wait longer",
        reason=reason,
    )
