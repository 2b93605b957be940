"""Keep the engine serving the highest valid release, through crashes and new releases."""

from __future__ import annotations

import asyncio
import logging
import time

from ..share_layout import Failure
from .config import GatewayConfig
from .engine_process import EngineDied, EngineUnreachable
from .engine_session import EngineSession
from .published_releases import Candidate, NotServable, NotYetReadable, PublishedReleases
from .replica_state import GatewayState

log = logging.getLogger(__name__)

START_ATTEMPTS = 2
"""Engine starts for a release that never served; one that did serve is retried without limit."""
MAX_BACKOFF = 30.0
STABLE_AFTER = 60.0
"""Seconds of service after which the crash counter starts again."""


class Supervisor:
    """Choose the release, start the engine for it, swap adapters, restart after a crash."""

    def __init__(self, settings: GatewayConfig, published: PublishedReleases, replica: GatewayState) -> None:
        self._settings = settings
        self._published = published
        self._replica = replica
        self._current: Candidate | None = None
        self._attempts: dict[int, int] = {}
        self._rejected: set[int] = set()
        self._first_seen: dict[int, float] = {}
        # Files of a remote writer may become visible one after the other, up to 30 s late.
        self._grace = 60.0 if settings.network_mount else 1.0
        self.session: EngineSession | None = None
        """The session with a running engine, None while there is none."""

    async def run(self) -> None:
        """Serve until cancelled, then stop the engine."""
        crashes = 0
        while True:
            target = await self._choose()
            began = time.monotonic()
            try:
                await self._serve(target)
            except NotServable as error:
                crashes = crashes + 1 if self._has_served(target) else 0
                self._refuse(target, error)
            except (EngineDied, EngineUnreachable) as error:
                served_long = self._current is not None and time.monotonic() - began > STABLE_AFTER
                crashes = 1 if served_long else crashes + 1
                self._after_crash(target, str(error))
            delay = min(MAX_BACKOFF, 0.25 * 2**crashes)
            log.info("the engine is started again in %.1f s", delay)
            await asyncio.sleep(delay)

    async def _choose(self) -> Candidate:
        """Return the release for the next engine; wait until there is one."""
        while True:
            newest = await self._newest_release(self._current.n if self._current else 0)
            # A release with other code needs another gateway, which the deployment target starts.
            if newest and (not self._current or newest.release.code == self._current.release.code):
                return newest
            if self._current:
                return self._current
            if self._replica.failed:
                self._replica.enter("failed", self._replica.failed.error)
            else:
                self._replica.enter("starting", "no valid release is published yet")
            await asyncio.sleep(self._settings.poll_interval)

    async def _serve(self, target: Candidate) -> None:
        """Serve until the engine ends; raise EngineDied."""
        self._replica.enter("restarting" if self._current else "loading", "starting the engine")
        session = EngineSession(self._settings, self._published, self._replica)
        try:
            await session.start(target.release)
            self._replica.detail = "loading adapters"
            await session.serve(target)
            self.session = session
            self._accept(target)
            await self._watch(session)
        finally:
            self.session = None
            self._replica.routes = {}
            self._replica.engine_health = {}
            if self._current:
                self._replica.enter("restarting", "the engine ended")
            await session.stop()

    async def _watch(self, session: EngineSession) -> None:
        while True:
            await asyncio.wait({session.ended}, timeout=self._settings.poll_interval)
            if session.ended.done():
                raise session.died()
            assert self._current is not None
            newest = await self._newest_release(self._current.n)
            if newest is None:
                self._set_pending(None)
            elif newest.release.needs_restart_from(self._current.release):
                self._set_pending(newest.release.id)
            else:
                await self._swap(session, newest)

    async def _swap(self, session: EngineSession, newest: Candidate) -> None:
        try:
            await session.serve(newest)
        except NotServable as error:
            self._refuse(newest, error)
        except EngineUnreachable:
            await asyncio.wait({session.ended}, timeout=5)
            if not session.ended.done():
                raise
            # Do not load adapters that ended the engine START_ATTEMPTS times.
            self._attempts[newest.n] = self._attempts.get(newest.n, 0) + 1
            if self._attempts[newest.n] >= START_ATTEMPTS:
                self._reject(newest, f"the engine ended twice while loading this release: {session.died()}")
            raise session.died() from None
        else:
            self._accept(newest)

    async def _newest_release(self, above: int) -> Candidate | None:
        """Return the highest valid release above a number that was not rejected."""
        try:
            numbers = await asyncio.to_thread(self._published.pointer_numbers)
        except OSError as error:
            self._replica.note_error(f"the share cannot be listed: {error}")
            return None
        for n in numbers:
            if n <= above:
                break
            if n in self._rejected:
                continue
            self._first_seen.setdefault(n, time.monotonic())
            try:
                return await asyncio.to_thread(self._published.read, n)
            except NotYetReadable as error:
                self._replica.note_error(str(error))
                failed = self._replica.failed
                if self._grace_is_over(n) and (failed is None or failed.n < n):
                    self._fail(Failure(n=n, release=f"pointer {n}", error=str(error)))
            except NotServable as error:
                self._rejected.add(n)
                self._fail(Failure(n=n, release=f"pointer {n}", error=str(error)))
        return None

    def _grace_is_over(self, n: int) -> bool:
        return time.monotonic() - self._first_seen.get(n, 0.0) > self._grace

    def _set_pending(self, release: str | None) -> None:
        if release != self._replica.pending:
            self._replica.pending = release
            self._replica.changed.set()

    def _accept(self, candidate: Candidate) -> None:
        self._current = candidate
        self._attempts.clear()
        if self._replica.failed and self._replica.failed.n <= candidate.n:
            self._replica.failed = None
        self._set_pending(None)
        self._replica.enter("ready")

    def _has_served(self, candidate: Candidate) -> bool:
        return self._current is not None and candidate.n == self._current.n

    def _refuse(self, candidate: Candidate, error: NotServable) -> None:
        """Reject a release, unless it has served already or its files may still become visible."""
        early = isinstance(error, NotYetReadable) and not self._grace_is_over(candidate.n)
        if early or self._has_served(candidate):  # the share may be unreachable for hours
            self._replica.note_error(str(error))
        else:
            self._reject(candidate, str(error))

    def _reject(self, candidate: Candidate, error: str) -> None:
        self._rejected.add(candidate.n)
        self._fail(Failure(n=candidate.n, release=candidate.release.id, error=error))

    def _fail(self, failure: Failure) -> None:
        log.error("release %s (pointer %d) is not served: %s", failure.release, failure.n, failure.error)
        if self._replica.failed is None or self._replica.failed.n <= failure.n:
            self._replica.failed = failure
        self._replica.note_error(failure.error)
        self._replica.changed.set()

    def _after_crash(self, target: Candidate, error: str) -> None:
        log.error("%s", error)
        self._replica.note_error(error)
        if self._current is None:
            self._attempts[target.n] = self._attempts.get(target.n, 0) + 1
            if self._attempts[target.n] >= START_ATTEMPTS:
                self._reject(target, error)
        elif target.n > self._current.n:  # an older release was replaced by a swap and did not cause this
            self._reject(target, error)
