"""Heartbeats on the share: which replicas count as ready."""

from __future__ import annotations

import json
from pathlib import Path

from nbtoolkit.azure.startup.heartbeats import Heartbeats
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.serving.share_layout import Heartbeat
from tests.support.replica_states import NOW, heartbeat


def test_replicas_are_ready_only_if_all_fresh_heartbeats_are(tmp_path: Path) -> None:
    folder = tmp_path / "nbtoolkit" / "replicas"
    folder.mkdir(parents=True)
    heartbeats = Heartbeats(LocalFolder(tmp_path))

    def write(*found: Heartbeat) -> None:
        for one in found:
            (folder / f"{one.replica}.json").write_text(one.model_dump_json())

    assert heartbeats.ready_replicas() == ()
    write(
        heartbeat("ready", "a"),
        heartbeat("ready", "b"),
        heartbeat("ready", "old", age=100),
        heartbeat("stopped", "gone"),
    )
    assert heartbeats.ready_replicas() == ("a", "b")
    write(heartbeat("loading", "b"))
    assert heartbeats.ready_replicas() == ()
    write(heartbeat("ready", "a", age=-100), heartbeat("ready", "b", age=100))  # clocks that differ
    assert heartbeats.ready_replicas() == ()
    (folder / "torn.json").write_text('{"replica": "to')
    write(heartbeat("ready", "old", age=4000))
    heartbeats.delete_stale({"a", "b"})
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "b", "gone", "torn"]


def test_heartbeat_json_is_parsed_as_the_server_writes_it(tmp_path: Path) -> None:
    (tmp_path / "nbtoolkit" / "replicas").mkdir(parents=True)
    content = {"replica": "a", "at": NOW.isoformat(), "phase": "failed", "last_error": "no wheels"}
    (tmp_path / "nbtoolkit" / "replicas" / "a.json").write_text(json.dumps(content))
    found = Heartbeats(LocalFolder(tmp_path)).read("a")
    assert found is not None
    assert (found.phase, found.last_error) == ("failed", "no wheels")
