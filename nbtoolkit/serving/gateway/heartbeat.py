"""Tell the share what this replica serves, and read there what the others do."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from .. import share_layout as share
from .config import GatewayConfig
from .replica_state import ReplicaState

log = logging.getLogger(__name__)


class HeartbeatWriter:
    """Write a heartbeat on every change and every few seconds."""

    def __init__(self, settings: GatewayConfig, replica: ReplicaState) -> None:
        self._settings = settings
        self._replica = replica
        self._writing = threading.Lock()
        self._written = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.write()
            self._replica.others_ready = await asyncio.to_thread(self._any_other_ready)
            try:
                await asyncio.wait_for(self._replica.changed.wait(), self._settings.heartbeat_interval)
            except TimeoutError:
                continue
            await asyncio.sleep(0.05)  # changes come in groups

    async def write(self) -> None:
        """Write one heartbeat; a share that refuses is logged, and the next beat tries again."""
        self._replica.changed.clear()
        beat = self._replica.heartbeat()
        try:
            await asyncio.to_thread(self._write, beat)
        except OSError as error:
            log.warning("the heartbeat could not be written: %s", error)

    def _write(self, beat: share.Heartbeat) -> None:
        path = self._settings.mount / share.heartbeat_path(beat.replica)
        temporary = path.with_name(f".{path.name}.new")
        with self._writing:
            if beat.at < self._written:
                return  # a slow write of a cancelled beat must not bury the last one
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(beat.model_dump_json(), encoding="utf-8")
            temporary.replace(path)
            self._written = beat.at

    def _any_other_ready(self) -> bool:
        folder = self._settings.mount / share.REPLICAS
        own = f"{self._replica.name}.json"
        try:
            paths = [
                p for p in folder.iterdir() if p.suffix == ".json" and p.name[0] != "." and p.name != own
            ]
        except OSError:
            return False
        return any(self._says_ready(path) for path in paths)

    def _says_ready(self, path: Path) -> bool:
        try:
            beat = share.Heartbeat.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return False  # it went away, or another version wrote it: no word that it is ready
        age = (datetime.now(UTC) - beat.at).total_seconds()
        return beat.phase == "ready" and age < self._settings.heartbeat_max_age
