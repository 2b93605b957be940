"""The status of a local server, from its state files and heartbeat."""

from __future__ import annotations

import time

from nbtoolkit.local.state_files import ServerRecord
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetState, TargetStatus


def describe_server(
    target: str, record: ServerRecord | None, heartbeat: Heartbeat | None, url: str | None, open_port: bool
) -> TargetStatus:
    """Return the status of a server; ``url`` is None if it does not run.

    ``open_port`` is whether a custom server listens; nothing else is known about it.
    """
    if record is None:
        return TargetStatus(target, "stopped", "no server was started yet")
    if url is None:
        return _ended(target, record)
    facts = {
        "process": f"{record.server.pid}, for {_duration(time.time() - record.started)}",
        "server": "nbtoolkit's" if record.kind == "nbtoolkit" else "your own, from inference/ on the share",
    }
    if record.kind == "own":
        state: TargetState = "ready" if open_port else "starting"
        summary = "it listens; its adapter is not proven" if open_port else "its start commands are running"
        return TargetStatus(target, state, summary, url=url, facts=facts)
    if heartbeat is None:
        return TargetStatus(target, "starting", "no heartbeat yet", url=url, facts=facts)
    for name, sha256 in heartbeat.adapters.items():
        facts[f"adapter {name}"] = f"sha256 {sha256[:16]}…"
    if heartbeat.last_error:
        facts["last error"] = heartbeat.last_error
    state, summary = _condition(heartbeat)
    return TargetStatus(target, state, summary, url=url, release=heartbeat.release, facts=facts)


def _condition(heartbeat: Heartbeat) -> tuple[TargetState, str]:
    if heartbeat.failed:
        state: TargetState = "degraded" if heartbeat.phase == "ready" else "failed"
        return state, f"release {heartbeat.failed.release} is not served: {heartbeat.failed.error}"
    if heartbeat.phase == "ready" and heartbeat.pending:
        return "degraded", f"release {heartbeat.pending} needs a restart: deploy again, or rollback()"
    if heartbeat.phase == "ready":
        return "ready", "it answers"
    if heartbeat.phase == "failed":
        return "failed", heartbeat.last_error or "see the log"
    return "starting", heartbeat.phase


def _ended(target: str, record: ServerRecord) -> TargetStatus:
    if record.reason is None:
        return TargetStatus(target, "failed", "the server was killed together with its launcher")
    if record.reason == "it ended by itself":
        return TargetStatus(target, "failed", f"the server ended with exit code {record.exit_code}")
    return TargetStatus(target, "stopped", record.reason)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
