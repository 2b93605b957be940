"""Parse the records of Azure's log streams, and recognise records that were already shown."""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

MAX_LINES = 300
"""Maximum number of past lines that a stream returns."""
_KEPT = 3 * MAX_LINES
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(\.\d{1,6})?\d*\s*(Z|[+-]\d\d:?\d\d)?(?: UTC)?")
_STREAM_STATE = re.compile(
    r"Connecting to the container '|Successfully Connected to container: '|No logs since last \d+ seconds"
)


@dataclass(frozen=True)
class LogLine:
    """One line of a container (``console``), of Azure (``system``), or about the log itself (``note``).

    ``source`` is the replica, or the app if Azure names none. The text is not escaped for HTML.
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
    """One record of a stream; ``line`` is None if it only reports the state of the stream."""

    raw: str
    at: datetime
    line: LogLine | None


RecordParser = Callable[[str, str], LogRecord]
"""Parse a raw record, given the name of its source."""


def console_record(raw: str, source: str) -> LogRecord:
    """Parse a record of a container's log stream.

    The container runtime marks a line with ``F``, and a part of a long line with ``P``.
    """
    content = _json(raw)
    at = parse_time(content.get("TimeStamp"))
    text = str(content["Log"]) if "Log" in content else raw
    if _STREAM_STATE.match(text):
        return LogRecord(raw, at, None)
    if text[:2] in ("F ", "P ") or text in ("F", "P"):
        text = text[2:]
    return LogRecord(raw, at, LogLine(at, source, text))


def system_record(raw: str, source: str) -> LogRecord:
    """Parse a record of an event stream."""
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
    """Parse a timestamp of Azure's streams, UTC without a zone; return the current time if it is invalid."""
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    try:
        day, time, fraction, zone = match.groups() if match else ("", "", "", "")
        return datetime.fromisoformat(f"{day}T{time}{fraction or ''}{zone or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.now(UTC)


class SeenRecords:
    """The last records of a stream, so that a stream that is opened again repeats and omits nothing.

    A stream starts with at most :data:`MAX_LINES` past records, so some more of them are kept. Records that
    are older than all kept ones were not requested.
    """

    def __init__(self) -> None:
        self._recent: deque[LogRecord] = deque(maxlen=_KEPT)
        self._replay: Counter[str] = Counter()
        self._oldest: datetime | None = None
        self._fresh = 0
        self._overlaps = True

    def reopen(self) -> None:
        """Expect the stream to repeat its last records."""
        self._replay = Counter(record.raw for record in self._recent)
        self._oldest = min((record.at for record in self._recent), default=None)
        self._fresh, self._overlaps = 0, not self._recent

    def skip_before(self, at: datetime) -> None:
        """Count all records before this time as seen, unless one was seen."""
        if not self._recent:
            self._recent.append(LogRecord("", at, None))

    def is_new(self, record: LogRecord) -> bool:
        """Return whether a record was not seen yet, and add it."""
        if self._replay[record.raw] > 0:
            self._replay[record.raw] -= 1
            self._overlaps = True
            return False
        if self._oldest and record.at < self._oldest:
            return False
        self._recent.append(record)
        self._fresh += 1
        return True

    @property
    def has_gap(self) -> bool:
        """Whether all past records of the stream are new, so that earlier ones are lost."""
        return not self._overlaps and self._fresh == MAX_LINES


def _json(raw: str) -> dict[str, Any]:
    try:
        content: Any = json.loads(raw)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
