"""The app's log, live: streams that answer as Azure's do, broken off and taken up again."""

from __future__ import annotations

import base64
import gzip
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.logs import client as log_streams
from nbtoolkit.azure.logs import merger as log_readers
from nbtoolkit.azure.logs import stream as logs
from nbtoolkit.azure.logs.log_analytics import log_query, log_query_page, query_page
from nbtoolkit.azure.logs.records import LogLine, console_record, parse_time, system_record
from nbtoolkit.azure.portal_urls import app_page
from nbtoolkit.azure.sdk import retry_after
from nbtoolkit.errors import AzureFailed, Cancelled
from nbtoolkit.progress import Progress

HOST = "westus3.azurecontainerapps.dev"
BEGIN = datetime(2026, 5, 14, 13, 10, 36, tzinfo=UTC)
WORKSPACE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.OperationalInsights/workspaces/ailog"
END = object()
"""A stream ends."""
CUT = object()
"""A stream breaks off."""


def console(second: float, text: str) -> str:
    stamp = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "1+00:00"
    return json.dumps({"TimeStamp": stamp, "Log": f"F {text}"})


def event(second: float, reason: str, message: str) -> str:
    stamp = (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S.%f") + "3 +0000 UTC"
    names = {"ContainerAppName": "aiapp", "RevisionName": "aiapp--1", "ReplicaName": "aiapp--1-x-aaaaa"}
    return json.dumps({"TimeStamp": stamp, "Type": "Normal", **names, "Msg": message, "Reason": reason})


def connecting(text: str) -> str:
    return json.dumps({"TimeStamp": "2026-05-14T14:00:00.74704", "Log": text})


CONNECTING = [
    connecting("Connecting to the container 'inference'..."),
    connecting(
        "Successfully Connected to container: 'inference' [Revision: 'aiapp--1', Replica: 'aiapp--1-x']"
    ),
]


class Stream(httpx.SyncByteStream):
    """What one request for a stream gets, record by record, as they are put."""

    def __init__(self, records: Iterator[Any]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[bytes]:
        for record in self._records:
            if record is END:
                return
            if record is CUT:
                raise httpx.ReadError("connection reset")
            content = f"{record}\n".encode()
            yield content[:7]  # a record may come in pieces
            yield content[7:]


class Azure:
    """Streams and ARM answers; ``streams`` maps a replica to what its next requests get."""

    def __init__(self, **streams: list[list[Any]]) -> None:
        self.streams = {name: list(answers) for name, answers in streams.items()}
        self.events: list[list[Any]] = []
        self.living = list(streams)
        self.stopped = False
        self.requests: list[httpx.Request] = []
        self.tokens = 0
        self.refuse: Callable[[httpx.Request], httpx.Response | None] = lambda _: None
        self.hold: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.provisioned = ResourceNames("s", "g", "acc", "share", "aiapp")
        client = httpx.Client(transport=httpx.MockTransport(self.answer))
        workspace = SimpleNamespace(customer_id="c-1", id=WORKSPACE)
        listing = SimpleNamespace(workspaces=SimpleNamespace(list=lambda: [workspace]))
        self.cloud = SimpleNamespace(http=lambda: client, workspaces=lambda _: listing)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        refused = self.refuse(request)
        if refused is not None:
            return refused
        if request.headers["authorization"] != f"Bearer token-{self.tokens}":
            return httpx.Response(401)
        path = request.url.path
        answers = self.events if path.endswith("/eventstream") else self.streams[path.split("/")[-4]]
        if not answers:
            return httpx.Response(404)
        return httpx.Response(
            200,
            stream=Stream(self._records(answers.pop(0), CONNECTING if answers is not self.events else [])),
        )

    def _records(self, records: list[Any], before: list[str]) -> Iterator[Any]:
        yield from before
        for record in records:
            if record is None:
                self.hold.get()  # nothing more for now
            else:
                yield record

    # what App offers

    def auth_token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    def get(self) -> Any:
        where = f"https://{HOST}/subscriptions/s/resourceGroups/g/containerApps/aiapp/eventstream"
        return SimpleNamespace(stopped=self.stopped, name="aiapp", event_stream=where)

    def environment(self) -> Any:
        return SimpleNamespace(log_workspace="c-1")

    def replicas_by_revision(self) -> Any:
        def replica(name: str) -> Any:
            path = f"/subscriptions/s/resourceGroups/g/containerApps/aiapp/revisions/aiapp--1/replicas/{name}"
            stream = f"https://{HOST}{path}/containers/inference/logstream"
            return SimpleNamespace(name=name, containers=(SimpleNamespace(log_stream=stream),))

        return {"aiapp--1": [replica(name) for name in self.living]}


def texts(lines: Iterator[LogLine] | list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def follow(azure: Any, count: int, *, kind: Any = logs.console_log, **options: Any) -> list[LogLine]:
    """Follow until so many lines came."""
    found: list[LogLine] = []
    for line in kind(azure, follow=True, **options):
        found.append(line)
        if len(found) == count:
            break
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_readers, "RELIST", 0.3)
    monkeypatch.setattr(log_readers, "HOLD", 0.1)


def test_merges_the_lines_of_replicas_by_revision_by_time() -> None:
    azure = Azure(
        first=[[console(0, "a"), console(2, "c"), END]], second=[[console(1, "b"), console(3, "d"), END]]
    )
    lines = list(logs.console_log(azure, tail=20))
    assert texts(lines) == ["a", "b", "c", "d"]
    assert [line.source for line in lines] == ["first", "second", "first", "second"]
    query = dict(azure.requests[0].url.params)
    assert query == {"follow": "false", "output": "json", "tailLines": "20"}


def test_one_replica_can_be_chosen() -> None:
    azure = Azure(first=[[console(0, "a"), END]], second=[[console(1, "b"), END]])
    assert texts(logs.console_log(azure, "second")) == ["b"]


def test_takes_a_cut_stream_up_again_without_showing_twice_or_leaving_out() -> None:
    azure = Azure(
        one=[
            [console(1, "a"), console(1, "a"), console(2, "b"), END],  # two equal lines, really
            [console(0, "old"), console(1, "a"), console(1, "a"), console(2, "b"), console(3, "c"), CUT],
            [console(1, "a"), console(1, "a"), console(2, "b"), console(3, "c"), console(4, "d"), END],
            [console(3, "c"), console(4, "d"), console(5, "e"), console(5, "e"), None],
        ]
    )
    assert texts(follow(azure, 7, tail=3)) == ["a", "a", "b", "c", "d", "e", "e"]
    asked = [(r.url.params["follow"], r.url.params["tailLines"]) for r in azure.requests]
    assert asked == [("false", "3"), ("true", "300"), ("true", "300"), ("true", "300")]


def test_only_new_lines_where_none_of_the_past_is_wanted() -> None:
    later = 3600  # the stream said at 14:00 that it was connected
    azure = Azure(
        one=[
            [console(later, "a"), CUT],
            [console(0, "old"), console(later, "a"), console(later + 1, "b"), None],
        ]
    )
    assert texts(follow(azure, 2, tail=0)) == ["a", "b"]
    assert azure.requests[0].url.params["tailLines"] == "0"


def test_says_where_lines_are_missing() -> None:
    many = [console(100 + i / 10, f"line {i}") for i in range(300)]
    azure = Azure(one=[[console(1, "a"), END], [console(1, "a"), CUT], [*many, None]])
    lines = follow(azure, 302)
    assert next(line for line in lines if line.kind == "note").text.endswith("some are missing")


def test_a_token_that_expired_is_fetched_again() -> None:
    azure = Azure(
        one=[
            [console(1, "a"), END],
            [console(1, "a"), console(2, "b"), CUT],
            [console(2, "b"), console(3, "c"), None],
        ]
    )
    found = []
    for line in logs.console_log(azure, follow=True):
        found.append(line.text)
        if line.text == "b":
            azure.tokens += 1  # the old one is refused from now on
        if line.text == "c":
            break
    assert found == ["a", "b", "c"]
    assert azure.tokens == 3


def redirected(azure: Azure, host: str) -> Azure:
    def redirect(request: httpx.Request) -> httpx.Response | None:
        url = request.url.copy_with(host=host)
        return httpx.Response(302, headers={"location": str(url)}) if request.url.host == HOST else None

    azure.refuse = redirect
    return azure


def test_the_token_goes_along_to_another_host_of_azure() -> None:
    azure = redirected(Azure(one=[[console(1, "a"), END]]), "other.azurecontainerapps.dev")
    assert texts(logs.console_log(azure)) == ["a"]
    assert azure.requests[1].url.host == "other.azurecontainerapps.dev"
    assert azure.requests[1].headers["authorization"] == "Bearer token-1"


@pytest.mark.parametrize(
    "host", ["azurecontainerapps.dev.evil.example", "evil.example", "notazurecontainerapps.dev"]
)
def test_the_token_goes_to_no_other_host(host: str) -> None:
    azure = redirected(Azure(one=[[console(1, "a"), END]]), host)
    with pytest.raises(AzureFailed, match=r"does not belong to azurecontainerapps\.dev"):
        list(logs.console_log(azure))
    assert [request.url.host for request in azure.requests] == [HOST]


def test_a_redirect_to_plain_http_is_refused() -> None:
    azure = Azure(one=[[END]])
    azure.refuse = lambda request: httpx.Response(302, headers={"location": f"http://{HOST}/x"})
    with pytest.raises(AzureFailed, match="redirected"):
        list(logs.console_log(azure))


def test_replicas_that_come_and_go_are_followed() -> None:
    azure = Azure(
        one=[[console(1, "a"), END], [console(1, "a"), END]], two=[[console(5, "b"), console(6, "c"), None]]
    )
    azure.living = ["one"]
    found = []
    for line in logs.console_log(azure, follow=True):
        found.append(line.text)
        if line.text == "a":
            azure.living = ["two"]  # the first one's stream is 404 from now on
        if line.text == "c":
            break
    assert found == ["a", "b", "c"]


@pytest.mark.parametrize(("stopped", "why"), [(False, "sleeps at zero"), (True, "is stopped")])
def test_says_that_no_replica_runs_and_where_older_lines_are(stopped: bool, why: str) -> None:
    azure = Azure()
    azure.stopped = stopped
    (note,) = logs.console_log(azure)
    assert note.kind == "note"
    assert why in note.text
    assert "AnalyticsShareLinkToQuery" in note.text
    assert azure.requests == []


def test_system_events_and_console_lines_in_one() -> None:
    azure = Azure(one=[[console(2, "listening"), END]])
    hello = {
        "TimeStamp": "2026-05-14T14:00:00Z",
        "Msg": "Connecting to the events collector...",
        "ContainerAppName": None,
    }
    azure.events = [
        [json.dumps(hello), event(1, "PulledImage", "pulled 'x'"), event(3, "ContainerStarted", "ok"), END]
    ]
    lines = list(logs.app_log(azure))
    assert texts(lines) == ["PulledImage: pulled 'x'", "listening", "ContainerStarted: ok"]
    assert [line.kind for line in lines] == ["system", "console", "system"]
    azure.events = [[event(1, "Killing", "x"), END]]
    assert texts(logs.system_log(azure)) == ["Killing: x"]


def test_a_busy_stream_is_asked_again_and_a_shut_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(503)]
    azure = Azure(one=[[console(1, "a"), END]])
    azure.refuse = lambda _: answers.pop() if answers else None
    assert texts(logs.console_log(azure)) == ["a"]
    monkeypatch.setattr(log_readers, "TRIES", 3)
    azure = Azure(one=[[END]])
    azure.refuse = lambda _: httpx.Response(502)
    with pytest.raises(AzureFailed, match="3 times in a row: HTTP 502"):
        list(logs.console_log(azure))


def test_a_missing_right_is_named() -> None:
    azure = Azure(one=[[END]])
    azure.refuse = lambda _: httpx.Response(403)
    with pytest.raises(AzureFailed, match="HTTP 403") as refused:
        list(logs.console_log(azure))
    assert "Microsoft.App/containerApps/logstream/action" in refused.value.next_step
    assert "token-" not in str(vars(refused.value))


def test_a_cancel_ends_following() -> None:
    azure = Azure(one=[[console(1, "a"), END], [console(1, "a"), None]])
    progress = Progress()
    threading.Timer(0.5, progress.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        for _ in logs.console_log(azure, follow=True, progress=progress):
            pass
    assert time.monotonic() - began < 2.5
    azure.hold.put(None)


def test_lines_are_read_as_azure_writes_them() -> None:
    line = console_record(console(0, "F text"), "app--r1-abc-xyz12").line
    assert line
    assert (line.text, str(line)) == ("F text", "2026-05-14 13:10:36 [xyz12] F text")
    assert (
        console_record('{"TimeStamp":"2026-05-14T13:11:13","Log":"No logs since last 60 seconds"}', "r").line
        is None
    )
    plain = console_record("no json at all", "r").line
    assert plain
    assert plain.text == "no json at all"
    empty = console_record(console(0, ""), "r").line
    assert empty
    assert empty.text == ""
    system = system_record(event(0, "PulledImage", "<b>"), "aiapp").line
    assert system
    assert str(system) == "2026-05-14 13:10:36 [azure] PulledImage: <b>"
    note = LogLine(BEGIN, "x", "nothing", "note")
    assert str(note) == "(nothing)"


@pytest.mark.parametrize(
    "text",
    [
        "2025-05-14T13:11:13.74704",
        "2025-05-14T13:11:13.747040123+00:00",
        "2025-05-14 13:11:13.7470401 +0000 UTC",
        "2025-05-14T15:11:13.74704+02:00",
        "2025-05-14T13:11:13.74704Z",
    ],
)
def test_times_are_understood_in_every_form(text: str) -> None:
    assert parse_time(text) == datetime(2025, 5, 14, 13, 11, 13, 747040, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2025-13-14T13:11:13Z", "0001-01-01T00:00:00+09:00", "soon", None, 7])
def test_a_time_that_is_none_is_now(text: object) -> None:
    assert abs(parse_time(text) - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_last_line_without_a_line_feed_is_shown() -> None:
    whole = httpx.Response(200, content=b"one\n\ntwo\r\nthree")
    assert list(log_streams._lines(whole)) == ["one", "two", "three"]


def test_whatever_a_reader_meets_reaches_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = Azure(one=[[console(1, "a"), END]])

    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(log_readers.SeenRecords, "is_new", broken)
    with pytest.raises(RecursionError, match="too deep"):
        list(logs.console_log(azure))


def test_a_stream_that_always_ends_at_once_is_asked_for_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    readers = log_readers.LogMerger(Azure(), 0)  # type: ignore[arg-type]
    closed = readers._streams.closed

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1500:
            closed.set()

    monkeypatch.setattr(closed, "wait", wait)
    readers._trying(SimpleNamespace(name="one"), lambda: None, once=False)  # type: ignore[arg-type]
    assert waits[0] == 0.25
    assert waits[-1] == 15


def test_a_stream_opened_while_all_are_closed_is_shut_too() -> None:
    ours, theirs = socket.socketpair()
    azure = Azure(one=[[None]])
    streams = log_streams.LogStreamClient(azure)  # type: ignore[arg-type]
    send = azure.answer

    def late(request: httpx.Request) -> httpx.Response:
        response = send(request)
        response.extensions["network_stream"] = SimpleNamespace(get_extra_info=lambda _: ours)
        streams.close()
        return response

    azure.cloud = SimpleNamespace(http=lambda: httpx.Client(transport=httpx.MockTransport(late)))
    source = log_streams.LogSource(
        f"https://{HOST}/a/replicas/one/containers/inference/logstream", "one", console_record
    )
    with streams._opened(source, 1, True):
        assert theirs.recv(1) == b""
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3), ("0.5", 0.5), ("-1", 0), ("", None), ("nan", None), ("inf", None), ("soon", None)],
)
def test_a_pause_that_azure_asks_for(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}) == seconds
    assert retry_after({}) is None


def test_a_pause_may_end_at_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after({"retry-after": later}) == pytest.approx(60, abs=5)
    assert retry_after({"retry-after": "Wed, 14 May 2025 13:11:13 GMT"}) == 0


def test_a_recorded_stream_is_understood(shared: Any) -> None:
    kinds = {"logstream": console_record, "eventstream": system_record}
    read: dict[str, list[LogLine]] = {"logstream": [], "eventstream": []}
    for text in (shared / "azure" / "recordings" / "containerapp-cli-2025.jsonl").read_text().splitlines():
        exchange = json.loads(text)
        for kind, reader in kinds.items():
            if f"/{kind}?" in exchange["url"]:
                records = [reader(raw, "source") for raw in exchange["resp_body"].splitlines() if raw.strip()]
                read[kind] += [record.line for record in records if record.line]
    assert texts(read["logstream"]) == ["2025/05/14 13:10:36 Listening on :80..."]
    assert "PulledImage" in "".join(texts(read["eventstream"]))
    assert not [line for line in read["eventstream"] if "events collector" in line.text]
    assert all(line.at.year == 2025 for lines in read.values() for line in lines)


def test_the_query_is_ready_in_the_portal() -> None:
    page = log_query_page(Azure())
    assert page == query_page(WORKSPACE, log_query("aiapp"))
    packed = page.partition("/q/")[2].partition("/timespan/")[0]
    query = gzip.decompress(base64.b64decode(unquote(unquote(packed)))).decode()
    assert "ContainerAppName_s == 'aiapp'" in query
    assert "%2Fsubscriptions%2Fs%2F" in page


def test_where_there_is_no_workspace_the_apps_page_is_linked() -> None:
    azure = Azure()
    azure.environment = lambda: SimpleNamespace(log_workspace=None)
    assert log_query_page(azure) == app_page(azure.provisioned)
