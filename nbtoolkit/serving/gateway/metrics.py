"""Counters in Prometheus' text format."""

from __future__ import annotations

from collections import Counter

from .replica_state import Replica


class Metrics:
    """What the front counts of its requests."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()

    def count(self, path: str, status: int) -> None:
        """Count one answered request."""
        self._requests[path, status] += 1

    def text(self, replica: Replica) -> str:
        """Return the front's metrics; numbers only, no names that a client chose."""
        ready = int(replica.phase == "ready")
        lines = [
            "# TYPE nbtoolkit_requests_total counter",
            *(
                f'nbtoolkit_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._requests.items())
            ),
            "# TYPE nbtoolkit_requests_in_flight gauge",
            f"nbtoolkit_requests_in_flight {replica.in_flight}",
            "# TYPE nbtoolkit_engine_starts_total counter",
            f"nbtoolkit_engine_starts_total {replica.engine_starts}",
            "# TYPE nbtoolkit_releases_served_total counter",
            f"nbtoolkit_releases_served_total {replica.releases_served}",
            "# TYPE nbtoolkit_ready gauge",
            f"nbtoolkit_ready {ready}",
            "# TYPE nbtoolkit_uptime_seconds gauge",
            f"nbtoolkit_uptime_seconds {replica.uptime:.3f}",
        ]
        return "\n".join(lines) + "\n"
