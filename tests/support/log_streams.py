"""A fake app whose log streams return prepared records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.logs.records import LogLine
from nbtoolkit.azure.logs.stream import FollowPolicy, app_log

HOST = "westus3.azurecontainerapps.dev"
BEGIN = datetime(2026, 5, 14, 13, 10, 36, tzinfo=UTC)
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/ailog"
END = object()
"""The stream ends."""
CUT = object()
"""The stream is interrupted."""
FAST = FollowPolicy(list_interval=0.3, hold=0.1)
APP_PATH = "/subscriptions/s/resourceGroups/g/containerApps/aiapp"


def console(second: float, text: str) -> str:
    """Return a record of a container's output."""
    stamp = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "1+00:00"
    return json.dumps({"TimeStamp": stamp, "Log": f"F {text}"})


def event(second: float, reason: str, message: str) -> str:
    """Return a record of a system event."""
    stamp = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S.%f") + "3 +0000 UTC"
    names = {"ContainerAppName": "aiapp", "RevisionName": "aiapp--1", "ReplicaName": "aiapp--1-x-aaaaa"}
    return json.dumps({"TimeStamp": stamp, "Type": "Normal", **names, "Msg": message, "Reason": reason})


def _connecting(text: str) -> str:
    return json.dumps({"TimeStamp": "2026-05-14T14:00:00.74704", "Log": text})


_CONNECTING = [
    _connecting("Connecting to the container 'inference'..."),
    _connecting(
        "Successfully Connected to container: 'inference' [Revision: 'aiapp--1', Replica: 'aiapp--1-x']"
    ),
]


class _Body(httpx.AsyncByteStream):
    """The records of one response; None holds the stream open until it is closed."""

    def __init__(self, records: list[Any]) -> None:
        self._records = records

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for record in self._records:
            if record is END:
                return
            if record is CUT:
                raise httpx.ReadError("connection reset")
            if record is None:
                await asyncio.Event().wait()
            content = record if isinstance(record, bytes) else f"{record}\n".encode()
            yield content[:7]  # a record may come in pieces
            yield content[7:]


class FakeApp:
    """An app with log streams; ``streams`` maps a replica to the records of its next responses."""

    def __init__(self, **streams: list[list[Any]]) -> None:
        self.streams = {name: list(responses) for name, responses in streams.items()}
        self.events: list[list[Any]] = []
        self.replicas = list(streams)
        self.stopped = False
        self.requests: list[httpx.Request] = []
        self.tokens = 0
        self.refuse: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.log_workspace: str | None = "c-1"
        self.provisioned = ResourceNames("s", "g", "acc", "share", "aiapp")
        workspaces = SimpleNamespace(list=lambda: [SimpleNamespace(customer_id="c-1", id=WORKSPACE)])
        self.cloud = SimpleNamespace(
            async_http=lambda: httpx.AsyncClient(transport=httpx.MockTransport(self.respond)),
            workspaces=lambda _: SimpleNamespace(workspaces=workspaces),
        )

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Respond to a request for a stream."""
        self.requests.append(request)
        if refused := self.refuse(request):
            return refused
        if request.headers["authorization"] != f"Bearer token-{self.tokens}":
            return httpx.Response(401)
        if request.url.path.endswith("/eventstream"):
            responses, start = self.events, list[str]()
        else:
            responses, start = self.streams[request.url.path.split("/")[-4]], _CONNECTING
        if not responses:
            return httpx.Response(404)
        return httpx.Response(200, stream=_Body([*start, *responses.pop(0)]))

    def redirect(self, host: str) -> None:
        """Redirect every request for a stream to another host."""

        def respond(request: httpx.Request) -> httpx.Response | None:
            location = str(request.url.copy_with(host=host))
            return httpx.Response(302, headers={"location": location}) if request.url.host == HOST else None

        self.refuse = respond

    # the methods of ContainerApp

    def auth_token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    def get(self) -> Any:
        stream = f"https://{HOST}{APP_PATH}/eventstream"
        return SimpleNamespace(stopped=self.stopped, name="aiapp", event_stream=stream)

    def environment(self) -> Any:
        return SimpleNamespace(log_workspace=self.log_workspace)

    def replicas_by_revision(self) -> Any:
        def replica(name: str) -> Any:
            path = f"{APP_PATH}/revisions/aiapp--1/replicas/{name}/containers/inference/logstream"
            containers = (SimpleNamespace(log_stream=f"https://{HOST}{path}"),)
            return SimpleNamespace(name=name, containers=containers)

        return {"aiapp--1": [replica(name) for name in self.replicas]}


def texts(lines: Iterable[LogLine]) -> list[str]:
    """Return the text of each line."""
    return [line.text for line in lines]


def console_lines(app: Any, **options: Any) -> list[LogLine]:
    """Return the past lines of the containers."""
    return list(app_log(app, ["console"], **options))


def follow(app: Any, count: int, **options: Any) -> list[LogLine]:
    """Follow the output of the containers until it has that many lines."""
    found: list[LogLine] = []
    for line in app_log(app, ["console"], follow=True, policy=FAST, **options):
        found.append(line)
        if len(found) == count:
            break
    return found
