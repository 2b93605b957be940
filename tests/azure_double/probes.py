"""Health probes of Container Apps: HTTP or TCP requests to the process, with thresholds."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .containers import Container
    from .replicas import Replica

STARTUP, LIVENESS, READINESS = "Startup", "Liveness", "Readiness"


@dataclass(frozen=True)
class Probe:
    """One probe of a template; times are Azure seconds."""

    kind: str
    path: str | None
    port: int
    headers: tuple[tuple[str, str], ...] = ()
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    failures: int = 3
    successes: int = 1

    def ask(self, port: int, timeout: float) -> str | None:
        """Probe once; return None if healthy, else the platform's message."""
        word = "StartUp" if self.kind == STARTUP else self.kind
        try:
            if self.path is None:
                socket.create_connection(("127.0.0.1", port), timeout).close()
                return None
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
            try:
                connection.request("GET", self.path, headers=dict(self.headers))
                status = connection.getresponse().status
            finally:
                connection.close()
        except TimeoutError:
            return f"Probe of {word} failed with timeout in {self.timeout:g} seconds."
        except (OSError, http.client.HTTPException):
            return f"Probe of {word} failed with status code: "
        return None if 200 <= status < 400 else f"Probe of {word} failed with status code: {status}"


class ProbeState:
    """One probe over time: due when its period has passed, decided when its threshold is reached."""

    def __init__(self, probe: Probe, replica: Replica) -> None:
        self.probe = probe
        self._replica = replica
        self._limits = replica.platform.limits
        self._clock = replica.platform.double.clock
        self._due = time.monotonic() + self._clock.real(probe.initial_delay)
        self._good = self._bad = 0
        self._bad_since = 0.0

    def poll(self, container: Container) -> bool | None:
        """Probe if it is due; return True or False once a threshold is reached, else None."""
        if time.monotonic() < self._due:
            return None
        wrong = self.probe.ask(
            container.ports[self.probe.port],
            max(self._clock.real(self.probe.timeout), self._limits.probe_timeout),
        )
        now = time.monotonic()
        self._due = now + max(self._clock.real(self.probe.period), self._limits.probe_period)
        if wrong is None:
            self._good, self._bad = self._good + 1, 0
            return True if self._good >= self.probe.successes else None
        self._bad_since = self._bad_since if self._bad else now
        self._good, self._bad = 0, self._bad + 1
        if self._bad == 1 or self._bad == self.probe.failures:
            self._replica.probe_failed(wrong)
        if self._bad < self.probe.failures:
            return None
        if self.probe.kind == READINESS:
            return False
        limit = self._limits.start if self.probe.kind == STARTUP else self._limits.silent
        since = container.started if self.probe.kind == STARTUP else self._bad_since
        return False if now - since >= limit else None


def probes_of(container: Mapping[str, Any], target_port: int | None) -> dict[str, Probe]:
    """Return the container's probes by kind; without any, the platform's TCP probes if it has ingress."""
    named: Sequence[Mapping[str, Any]] = container.get("probes") or []
    if not named and target_port:
        return {
            STARTUP: Probe(STARTUP, None, target_port, period=1, timeout=3, failures=240),
            LIVENESS: Probe(LIVENESS, None, target_port),
            READINESS: Probe(READINESS, None, target_port, period=5, timeout=5, failures=48),
        }
    return {probe.kind: probe for probe in map(_of, named)}


def _of(probe: Mapping[str, Any]) -> Probe:
    get = probe.get("httpGet")
    place: Mapping[str, Any] = get or probe["tcpSocket"]
    return Probe(
        kind=str(probe["type"]).capitalize(),
        path=(get.get("path") or "/") if get else None,
        port=int(place["port"]),
        headers=tuple((header["name"], header["value"]) for header in (get or {}).get("httpHeaders") or []),
        initial_delay=probe.get("initialDelaySeconds") or 0,
        period=probe.get("periodSeconds") or 10,
        timeout=probe.get("timeoutSeconds") or 1,
        failures=probe.get("failureThreshold") or 3,
        successes=probe.get("successThreshold") or 1,
    )
