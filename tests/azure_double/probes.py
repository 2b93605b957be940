"""Health probes as Container Apps makes them: HTTP or TCP, counted, against the process."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        """Ask once; None when healthy, else what went wrong, in the platform's words."""
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


def of_container(container: Mapping[str, Any], target_port: int | None) -> dict[str, Probe]:
    """The container's probes by kind; where it names none and has ingress, the platform's own: TCP."""
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
