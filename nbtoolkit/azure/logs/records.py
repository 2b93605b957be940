"""One line of an app's log, and how Azure's streams write it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*\s*(Z|[+-]\d\d:?\d\d)?(?: UTC)?")
_OF_THE_STREAM = re.compile(
    r"Connecting to the container '|Successfully Connected to container: '|No logs since last \d+ seconds"
)


@dataclass(frozen=True)
class LogLine:
    """One line: of a container (``console``), of Azure (``system``), or about the log itself (``note``).

    ``source`` is the replica, or the app where Azure names none. The text is as it was printed: escape it
    before it goes into HTML.
    """

    at: datetime
    source: str
    text: str
    kind: Literal["console", "system", "note"] = "console"

    def __str__(self) -> str:
        if self.kind == "note":
            return f"({self.text})"
        mark = self.source.rpartition("-")[2] if self.kind == "console" else "azure"
        return f"{self.at:%Y-%m-%d %H:%M:%S} [{mark}] {self.text}"


@dataclass(frozen=True)
class LogRecord:
    """One record of a stream: ``line`` is None where the stream only speaks of itself."""

    raw: str
    at: datetime
    line: LogLine | None


RecordParser = Callable[[str, str], LogRecord]
"""Turn a raw record and the name of its source into what it says."""


def console_record(raw: str, source: str) -> LogRecord:
    """Read a record of a container's log stream.

    The container runtime marks a line with ``F``, or ``P`` where it is a part of a long one.
    """
    content = _json(raw)
    at = parse_time(content.get("TimeStamp"))
    text = str(content["Log"]) if "Log" in content else raw
    if _OF_THE_STREAM.match(text):
        return LogRecord(raw, at, None)
    if text[:2] in ("F ", "P ") or text in ("F", "P"):
        text = text[2:]
    return LogRecord(raw, at, LogLine(at, source, text))


def system_record(raw: str, source: str) -> LogRecord:
    """Read a record of an event stream."""
    content = _json(raw)
    at = parse_time(content.get("TimeStamp"))
    if "Msg" in content and not content.get("ContainerAppName"):
        return LogRecord(raw, at, None)  # connected, waiting, or nothing new
    reason = content.get("Reason") or ""
    message = str(content.get("Msg") or ("" if content else raw))
    text = f"{reason}: {message}" if reason else message
    name = content.get("ReplicaName") or content.get("RevisionName") or source
    return LogRecord(raw, at, LogLine(at, str(name), text, "system"))


def parse_time(text: object) -> datetime:
    """Return a time as Azure's streams write it, UTC where they name no zone; now where it is none."""
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    try:
        day, time, fraction, zone = match.groups() if match else ("", "", "", "")
        return datetime.fromisoformat(f"{day}T{time}{fraction or ''}{zone or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.now(UTC)


def _json(raw: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
