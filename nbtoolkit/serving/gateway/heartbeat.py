"""Write this replica's heartbeat to the share and read those of other replicas."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from .. import share_layout as share
from .config import GatewayConfig
from .replica_state import GatewayState

log = logging.getLogger(__name__)


class HeartbeatWriter:
    """Write a heartbeat on every change and at a fixed interval."""

    def __init__(self, settings: GatewayConfig, replica: GatewayState) -> None:
        self._settings = settings
        self._replica = replica
        self._writing = threading.Lock()
        self._written = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Write heartbeats until cancelled."""
        while True:
            await self.write()
            self._replica.others_ready = await asyncio.to_thread(self._any_other_ready)
            try:
                await asyncio.wait_for(self._replica.changed.wait(), self._settings.heartbeat_interval)
            except TimeoutError:
                continue
            await asyncio.sleep(0.05)  # one heartbeat for changes that come together

    async def write(self) -> None:
        """Write one heartbeat; an error of the share is logged, and the next one is written as usual."""
        self._replica.changed.clear()
        heartbeat = self._replica.heartbeat()
        try:
            await asyncio.to_thread(self._write, heartbeat)
        except OSError as error:
            log.warning("the heartbeat could not be written: %s", error)

    def _write(self, heartbeat: share.Heartbeat) -> None:
        path = self._settings.mount / share.heartbeat_path(heartbeat.replica)
        temporary = path.with_name(f".{path.name}.new")
        with self._writing:
            if heartbeat.at < self._written:
                return  # a slow write of a cancelled task must not replace a newer heartbeat
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(heartbeat.model_dump_json(), encoding="utf-8")
            temporary.replace(path)
            self._written = heartbeat.at

    def _any_other_ready(self) -> bool:
        folder = self._settings.mount / share.REPLICAS
        own_name = f"{self._replica.name}.json"
        try:
            paths = [p for p in folder.glob("[!.]*.json") if p.name != own_name]
        except OSError:
            return False
        return any(map(self._is_ready, paths))

    def _is_ready(self, path: Path) -> bool:
        try:
            heartbeat = share.Heartbeat.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return False  # the file was removed, or another version wrote it
        age = (datetime.now(UTC) - heartbeat.at).total_seconds()
        return heartbeat.phase == "ready" and age < self._settings.heartbeat_max_age
