"""System events of replicas in the format of the event stream."""

from __future__ import annotations

import datetime
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One system event, as the event stream and ContainerAppSystemLogs show it."""

    at: float
    type: str
    app: str
    app_id: str
    environment_id: str
    revision: str | None
    replica: str | None
    message: str
    reason: str


def connection_record(message: str, reason: str) -> bytes:
    """The records with which every event stream begins."""
    return json_record(
        {
            "TimeStamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "Type": "Normal",
            "ContainerAppName": None,
            "RevisionName": None,
            "ReplicaName": None,
            "Msg": message,
            "Reason": reason,
            "EventSource": "ContainerAppController",
            "Count": 1,
        }
    )


def event_record(event: Event) -> bytes:
    """One system event as a record."""
    at = datetime.datetime.fromtimestamp(event.at, datetime.UTC)
    return json_record(
        {
            "TimeStamp": f"{at:%Y-%m-%d %H:%M:%S.%f}3 +0000 UTC",
            "Type": event.type,
            "ContainerAppName": event.app,
            "RevisionName": event.revision,
            "ReplicaName": event.replica,
            "Msg": event.message,
            "Reason": event.reason,
            "EventSource": "ContainerAppController",
            "Count": 1,
        }
    )


def json_record(record: dict[str, Any]) -> bytes:
    """One line of JSON, with the characters escaped that .NET escapes."""
    text = json.dumps(record, separators=(",", ":"))
    for character in "'+<>&`":
        text = text.replace(character, f"\\u{ord(character):04X}")
    return (text.replace('\\"', "\\u0022") + "\n").encode()
