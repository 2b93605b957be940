"""The state of this replica: phase, public release, loaded models, running requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..openai_format import ApiError
from ..release import Release
from ..share_layout import Failure, Heartbeat, Phase


@dataclass(eq=False)
class EngineModel:
    """One model loaded in the engine: the base, or an adapter by its engine name."""

    engine_name: str
    sha256: str
    is_base: bool = False
    folder: Path | None = None
    proof: str = ""
    in_flight: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last running request of the model ends."""

    @property
    def system_fingerprint(self) -> str:
        """Value of the response field that identifies the model."""
        return "base" if self.is_base else self.sha256[:16]


class GatewayState:
    """The state of one gateway. Used by the event loop's thread only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.phase: Phase = "starting"
        self.detail = ""
        self.release: Release | None = None
        self.n: int | None = None
        self.routes: dict[str, EngineModel] = {}
        self.pending: str | None = None
        self.failed: Failure | None = None
        self.last_error: str | None = None
        self.engine_starts = 0
        self.releases_served = 0
        self.ready_at = 0.0
        """Wall-clock time at which the public release last changed."""
        self.engine_health: dict[str, Any] = {}
        self.in_flight = 0
        self.accepts_while_draining = False
        """Whether requests are still accepted although shutdown has begun."""
        self.idle = asyncio.Event()
        self.changed = asyncio.Event()
        self.others_ready = False
        self._started = self._phase_since = time.monotonic()

    @property
    def uptime(self) -> float:
        """Seconds since the gateway started."""
        return time.monotonic() - self._started

    def enter(self, phase: Phase, detail: str = "") -> None:
        """Change the phase; after ``draining`` only ``stopped`` is accepted."""
        if self.phase in ("draining", "stopped") and phase != "stopped":
            return
        if phase != self.phase:
            self._phase_since = time.monotonic()
        self.phase, self.detail = phase, detail
        self.changed.set()

    def note_error(self, text: str) -> None:
        """Store an error for /health and the heartbeat."""
        if text != self.last_error:
            self.last_error = text
            self.changed.set()

    def refuse_unless_ready(self) -> None:
        """Raise ApiError with the phase while requests cannot be served."""
        if self.phase != "ready" and not self.accepts_while_draining:
            reason = f"The server is not ready: {self.phase}{self.detail and f' ({self.detail})'}."
            raise ApiError(reason, status=503, code="not_ready", kind="server_error", retry_after=2)

    @contextmanager
    def lease(self, name: object) -> Generator[EngineModel]:
        """Use the model that is public under a name now; it stays loaded until the context ends.

        Raises :class:`ApiError` if no model has the name, or if as many requests run and wait as may.
        """
        self.refuse_unless_ready()
        known = ", ".join(self.routes)
        if not isinstance(name, str) or not name:
            raise ApiError(f"'model' must name a model. Known: {known}.", code="model_missing", param="model")
        if name not in self.routes:
            message = f"The model {name!r} does not exist. Known: {known}."
            raise ApiError(message, status=404, code="model_not_found", param="model")
        model = self.routes[name]
        assert self.release is not None
        if self.in_flight >= self.release.engine.max_batch + self.release.engine.max_queue:
            message = f"{self.in_flight} requests are running or waiting; retry in a second."
            raise ApiError(message, status=429, code="queue_full", kind="rate_limit_error", retry_after=1)
        self.in_flight += 1
        model.in_flight += 1
        try:
            yield model
        finally:
            self.in_flight -= 1
            model.in_flight -= 1
            if model.in_flight == 0:
                model.idle.set()
            if self.in_flight == 0:
                self.idle.set()

    async def wait_idle(self) -> None:
        """Wait until no request is running."""
        while self.in_flight:
            self.idle.clear()
            await self.idle.wait()

    def publish(self, release: Release, n: int, routes: dict[str, EngineModel]) -> None:
        """Make a release public, atomically for requests."""
        self.release, self.n, self.routes = release, n, routes
        self.releases_served += 1
        self.ready_at = time.time()
        self.changed.set()

    def adapters(self) -> dict[str, str]:
        """Return public name → sha256 of the adapters that are public."""
        return {name: model.sha256 for name, model in self.routes.items() if not model.is_base}

    def health(self) -> dict[str, Any]:
        """Return the body of /health, which holds no secrets."""
        kind = self.release.engine.kind if self.release else None
        return {
            "status": "ok",
            "replica": self.name,
            "phase": self.phase,
            "detail": self.detail,
            "phase_seconds": round(time.monotonic() - self._phase_since, 3),
            "elapsed": round(self.uptime, 3),
            "release": self.release.id if self.release else None,
            "n": self.n,
            "base": self.release.base.name if self.release and self.release.base else None,
            "adapters": self.adapters(),
            "proofs": {name: model.proof for name, model in self.routes.items() if not model.is_base},
            "engine": {"kind": kind, "starts": self.engine_starts, **self.engine_health},
            "cuda_error": self.engine_health.get("cuda_error"),
            "in_flight": self.in_flight,
            "pending": {"release": self.pending, "needs": "restart"} if self.pending else None,
            "failed": self.failed.model_dump() if self.failed else None,
            "last_error": self.last_error,
        }

    def heartbeat(self) -> Heartbeat:
        """Return the heartbeat for the share."""
        return Heartbeat(
            replica=self.name,
            at=datetime.now(UTC),
            phase=self.phase,
            n=self.n,
            release=self.release.id if self.release else None,
            adapters=self.adapters(),
            engine_starts=self.engine_starts,
            pending=self.pending,
            failed=self.failed,
            last_error=self.last_error,
        )
