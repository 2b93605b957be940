"""One run of the engine: start, adapters loaded and unloaded, health checks, stop."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from ..engines import BaseModelFolder, EngineConfig
from ..fingerprint import judge
from ..release import Release, ServedAdapter
from .config import GatewayConfig
from .engine_process import EngineClient, EngineDied, EngineProcess, EngineUnreachable
from .published_releases import Candidate, NotServable, PublishedReleases
from .replica_state import EngineModel, GatewayState

log = logging.getLogger(__name__)

UNHEALTHY_TIMEOUT = 120.0
"""Seconds without a successful health check after which a running engine is killed and restarted."""


class EngineSession:
    """Start an engine for a release, then serve this release and others that need no restart."""

    def __init__(self, settings: GatewayConfig, published: PublishedReleases, replica: GatewayState) -> None:
        self._settings = settings
        self._published = published
        self._replica = replica
        self._copies = Path(tempfile.mkdtemp(prefix="nbtoolkit-adapters-"))
        self._loaded: dict[str, EngineModel] = {}
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._process: EngineProcess
        self.client: EngineClient
        self.ended: asyncio.Task[int]
        self._base: EngineModel

    async def start(self, release: Release) -> None:
        """Start the process and wait until its base model is ready; raise NotServable or EngineDied."""
        assert release.base is not None
        if release.engine.kind != "transformers":
            raise NotServable(f"this server has no engine {release.engine.kind!r}, only 'transformers'")
        tokenizer, find_folder = release.tokenizer, self._published.folder
        base = await asyncio.to_thread(find_folder, release.base.path, f"base model {release.base.name!r}")
        folder = await asyncio.to_thread(find_folder, tokenizer.path, "the tokenizer") if tokenizer else base
        config = EngineConfig(
            base=BaseModelFolder(name=release.base.name, path=base),
            tokenizer_path=folder,
            chat_template=tokenizer.chat_template if tokenizer else None,
            network_mount=self._settings.network_mount,
            **release.engine.model_dump(),
        )
        self._process = await EngineProcess.start(self._settings.engine_command, config)
        self._replica.engine_starts += 1
        self.ended = asyncio.create_task(self._process.wait())
        self.client = EngineClient(self._process.port, self._process.key)
        self._base = EngineModel(release.base.name, release.base.sha256, is_base=True)
        await self._copy(release)  # while the engine loads
        await self._wait_ready()
        self._spawn(self._observe())

    async def serve(self, candidate: Candidate) -> None:
        """Load and prove new adapters, make the release public, unload adapters that it does not name.

        Raises NotServable and changes nothing if an adapter does not load or is not proven. A request that
        began earlier keeps its adapter, which is unloaded after the last of these requests.
        """
        release, replica = candidate.release, self._replica
        assert release.base is not None
        began = time.monotonic()
        async with self._lock:
            folders = await self._copy(release)
            routes = {release.base.name: self._base}
            fresh: list[EngineModel] = []
            try:
                for adapter in release.adapters:
                    model = self._loaded.get(adapter.engine_name)
                    if model is None:
                        model = await self._load(adapter, folders[adapter.engine_name])
                        fresh.append(model)
                        model.proof = await self._prove(release, adapter)
                    routes[adapter.name] = model
            except BaseException:
                for model in fresh:
                    self._spawn(self._retire(model))
                raise
            replica.publish(release, candidate.n, routes)
        seconds = time.monotonic() - began
        log.info("release %s (pointer %d) is public after %.2f s", release.id, candidate.n, seconds)
        for model in list(self._loaded.values()):
            if model not in routes.values():
                self._spawn(self._retire(model))

    def died(self) -> EngineDied:
        """Return the error with the process's exit code and last lines."""
        return EngineDied(self._process.exit_report())

    async def stop(self) -> None:
        """End the process, close all connections and delete the copies."""
        for task in self._tasks:
            task.cancel()
        if hasattr(self, "client"):
            await self.client.close()
            await self._process.stop(grace=2.0)
            self.ended.cancel()
        await asyncio.to_thread(shutil.rmtree, self._copies, True)

    async def _wait_ready(self) -> None:
        while not self.ended.done():
            try:
                ready, health = await self.client.health()
            except EngineUnreachable:
                ready, health = False, {}
            if ready:
                self._replica.engine_health = health
                return
            if health.get("phase") == "failed":  # the process only runs to report the reason
                raise NotServable(f"the engine cannot serve this: {health.get('error') or 'no reason given'}")
            if health.get("phase"):
                self._replica.detail = str(health["phase"])
            await asyncio.wait({self.ended}, timeout=0.1)
        raise self.died()

    async def _copy(self, release: Release) -> dict[str, Path]:
        wanted = {a.engine_name: a for a in release.adapters if a.engine_name not in self._loaded}
        missing = [a for name, a in wanted.items() if not (self._copies / name).is_dir()]
        for adapter in missing:
            partial = self._copies / "partial"
            copy = await asyncio.to_thread(self._published.copy_adapter, adapter, partial)
            copy.rename(self._copies / adapter.engine_name)
        return {name: self._copies / name for name in wanted}

    async def _load(self, adapter: ServedAdapter, folder: Path) -> EngineModel:
        try:
            await self.client.load(adapter.engine_name, str(folder))
        except NotServable as error:
            raise NotServable(f"adapter {adapter.name!r}: {error}") from None
        model = EngineModel(adapter.engine_name, adapter.sha256, folder=folder)
        self._loaded[adapter.engine_name] = model
        return model

    async def _prove(self, release: Release, adapter: ServedAdapter) -> str:
        fingerprint = await asyncio.to_thread(self._published.fingerprint, release, adapter)
        if fingerprint is None:
            return f"not proven: no fingerprint, allowed because: {release.override_reason}"
        before = self._replica.routes.get(adapter.name)
        models = [adapter.engine_name, self._base.engine_name]
        if before is not None and not before.is_base:  # a swap, which other answers must not wait for
            fingerprint = fingerprint.shortened
            models.append(before.engine_name)
        replays = (self.client.replay(model, fingerprint.contexts) for model in models)
        answers, base, *old = await asyncio.gather(*replays)
        dtype = self._replica.engine_health.get("dtype")
        verdict = judge(fingerprint, answers, base, old=old[0] if old else None, dtype=dtype)
        if verdict.refuted:
            own = verdict.outcome == "adapter differs"
            what = f"adapter {adapter.name!r}" if own else f"with adapter {adapter.name!r} the base"
            raise NotServable(f"{what} is not what answers under its name: {verdict}")
        return str(verdict)

    async def _retire(self, model: EngineModel) -> None:
        """Unload a model after its last answer, unless it became public again in the meantime."""
        while True:
            while model.in_flight:
                model.idle.clear()
                await model.idle.wait()
            async with self._lock:
                if model in self._replica.routes.values() or self._loaded.get(model.engine_name) is not model:
                    return
                if model.in_flight:
                    continue
                try:
                    await self.client.unload(model.engine_name)
                except NotServable as error:
                    self._replica.note_error(str(error))
                del self._loaded[model.engine_name]
                if model.folder is not None:
                    await asyncio.to_thread(shutil.rmtree, model.folder, True)
                return

    async def _observe(self) -> None:
        """Store the engine's health every two seconds; kill an engine whose health checks fail for too long.

        The engine's HTTP thread answers them: a decoding step that never returns is not detected here.
        """
        healthy_at = time.monotonic()
        while True:
            await asyncio.sleep(2)
            try:
                ready, self._replica.engine_health = await self.client.health()
            except EngineUnreachable:
                ready = False
            if ready:
                healthy_at = time.monotonic()
            elif time.monotonic() - healthy_at > UNHEALTHY_TIMEOUT:
                self._replica.note_error(
                    f"the engine's health checks failed for {UNHEALTHY_TIMEOUT:.0f} s; it is restarted"
                )
                self._process.kill()
                return

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, EngineUnreachable):  # a crash is reported elsewhere
            log.error("background work of the engine failed", exc_info=error)
