"""<region>.azurecontainerapps.dev: streams of container output and of system events."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from .http import ClientDisconnected, Refused, Request, Response
from .log_buffers import Buffer
from .resource_ids import ResourceId
from .system_events import Event, connection_record, event_record, json_record

if TYPE_CHECKING:
    from .app_platform import Platform

OWNER = (
    r"(?P<group>/subscriptions/[^/]+/resourceGroups/[^/]+)/(?P<type>containerApps|managedEnvironments)"
    r"/(?P<name>[^/]+)"
)
CONSOLE = re.compile(
    OWNER
    + r"/revisions/(?P<revision>[^/]+)/replicas/(?P<replica>[^/]+)/containers/(?P<container>[^/]+)/logstream",
    re.I,
)
EVENTS = re.compile(OWNER + r"/eventstream", re.I)
SERVER = {"server": "Microsoft-IIS/10.0"}
FOLLOW_INTERVAL = 0.05
"""Real seconds between checks of an idle stream for its end."""
Record = TypeVar("Record")


class Streams:
    """Log and event streams, opened by a token of getAuthToken."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform

    def handle(self, request: Request) -> Response:
        path = request.decoded_path.rstrip("/")
        console, events = CONSOLE.fullmatch(path), EVENTS.fullmatch(path)
        found = console or events
        if found is None or request.method != "GET":
            raise Refused(404, "NotFound", "There is no such stream.")
        owner = f"{found['group']}/providers/Microsoft.App/{found['type']}/{found['name']}"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.platform.stream_tokens.opens(token, owner):
            return Response(401, {"www-authenticate": "Bearer", **SERVER})
        tail = request.query.get("tailLines", "20")
        if not tail.isdigit() or int(tail) > 300:
            raise Refused(400, "InvalidParameter", f"tailLines must be between 0 and 300, not {tail}.")
        other = self.platform.log_redirect
        if console and other and request.host != other:
            query = "&".join(f"{name}={value}" for name, value in request.query.items())
            return Response(302, {"location": f"https://{other}{request.path}?{query}", **SERVER})
        follow = request.query.get("follow", "false").lower() == "true"
        if console:
            pieces = self._console(
                owner, console, int(tail), follow, request.query.get("output", "json") == "text"
            )
        else:
            pieces = self._events(owner, int(tail), follow, found["type"].lower() == "managedenvironments")
        return Response(200, dict(SERVER), pieces)

    def _console(self, owner: str, at: re.Match[str], tail: int, follow: bool, text: bool) -> Iterator[bytes]:
        app = self.platform.require_app(ResourceId.parse(owner) or ResourceId(""))
        replica = app.revision(at["revision"]).replica(at["replica"])
        name = at["container"]
        if replica is None or replica.template["name"] != name:
            raise Refused(404, "ContainerAppReplicaNotFound", f"Replica '{at['replica']}' was not found.")

        def line(stamp: str, log: str) -> bytes:
            return f"{stamp} {log}\n".encode() if text else json_record({"TimeStamp": stamp, "Log": log})

        def records() -> Iterator[bytes]:
            now = datetime.datetime.now(datetime.UTC)
            yield line(f"{now:%Y-%m-%dT%H:%M:%S.%f}"[:-1], f"Connecting to the container '{name}'...")
            yield line(
                f"{now:%Y-%m-%dT%H:%M:%S.%f}"[:-1],
                f"Successfully Connected to container: '{name}' [Revision: '{at['revision']}', "
                f"Replica: '{replica.name}']",
            )
            so_far = replica.log.all()
            for record in so_far[max(0, len(so_far) - tail) :]:
                yield line(record.stamp, f"F {record.text}")
            if follow:
                for record in self._follow(replica.log, len(so_far)):
                    yield line(record.stamp, f"F {record.text}") if record else b""

        return records()

    def _events(self, owner: str, tail: int, follow: bool, environment: bool) -> Iterator[bytes]:
        self.platform.double.arm.require(ResourceId.parse(owner) or ResourceId(""))

        def mine(event: Event) -> bool:
            return owner.lower() == (event.environment_id if environment else event.app_id).lower()

        def records() -> Iterator[bytes]:
            yield connection_record("Connecting to the events collector...", "StartingGettingEvents")
            yield connection_record("Successfully connected to events server", "ConnectedToEventsServer")
            so_far = self.platform.events.all()
            past = [event for event in so_far if mine(event)]
            for event in past[max(0, len(past) - tail) :]:
                yield event_record(event)
            if follow:
                for event in self._follow(self.platform.events, len(so_far)):
                    yield event_record(event) if event and mine(event) else b""

        return records()

    def _follow(self, buffer: Buffer[Record], start: int) -> Iterator[Record | None]:
        generation = self.platform.log_generation

        def ended() -> bool:
            if self.platform.log_generation != generation:
                raise ClientDisconnected("the stream was cut")
            return self.platform.double.clock.stopped

        return buffer.follow(start, ended, FOLLOW_INTERVAL)
