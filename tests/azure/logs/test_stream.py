"""The app's log: streams of several replicas are merged, and opened again after an interruption."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from nbtoolkit.azure.logs import stream
from nbtoolkit.azure.logs.records import SeenRecords
from nbtoolkit.azure.logs.stream import app_log, pause_before_retry
from nbtoolkit.errors import AzureFailed, Cancelled
from nbtoolkit.progress import Progress
from tests.support.log_streams import CUT, END, FAST, FakeApp, console, console_lines, event, follow, texts


def test_lines_of_several_replicas_are_merged_by_time() -> None:
    app = FakeApp(
        first=[[console(0, "a"), console(2, "c"), END]], second=[[console(1, "b"), console(3, "d"), END]]
    )
    lines = console_lines(app, tail=20)
    assert texts(lines) == ["a", "b", "c", "d"]
    assert [line.source for line in lines] == ["first", "second", "first", "second"]
    query = dict(app.requests[0].url.params)
    assert query == {"follow": "false", "output": "json", "tailLines": "20"}


def test_interrupted_stream_is_resumed_without_repeated_or_missing_lines() -> None:
    app = FakeApp(
        one=[
            [console(1, "a"), console(1, "a"), console(2, "b"), END],  # two equal lines
            [console(0, "old"), console(1, "a"), console(1, "a"), console(2, "b"), console(3, "c"), CUT],
            [console(1, "a"), console(1, "a"), console(2, "b"), console(3, "c"), console(4, "d"), END],
            [console(3, "c"), console(4, "d"), console(5, "e"), console(5, "e"), None],
        ]
    )
    assert texts(follow(app, 7, tail=3)) == ["a", "a", "b", "c", "d", "e", "e"]
    requested = [(one.url.params["follow"], one.url.params["tailLines"]) for one in app.requests]
    assert requested == [("false", "3"), ("true", "300"), ("true", "300"), ("true", "300")]


def test_tail_zero_follows_only_new_lines() -> None:
    later = 3600  # the stream was connected at 14:00
    app = FakeApp(
        one=[
            [console(later, "a"), CUT],
            [console(0, "old"), console(later, "a"), console(later + 1, "b"), None],
        ]
    )
    assert texts(follow(app, 2, tail=0)) == ["a", "b"]
    assert app.requests[0].url.params["tailLines"] == "0"


def test_lost_lines_are_reported() -> None:
    many = [console(100 + i / 10, f"line {i}") for i in range(300)]
    app = FakeApp(one=[[console(1, "a"), END], [console(1, "a"), CUT], [*many, None]])
    lines = follow(app, 302)
    assert next(line for line in lines if line.kind == "note").text.endswith("some are missing")


def test_expired_token_is_renewed_while_following() -> None:
    app: Any = FakeApp(
        one=[
            [console(1, "a"), END],
            [console(1, "a"), console(2, "b"), CUT],
            [console(2, "b"), console(3, "c"), None],
        ]
    )
    found: list[str] = []
    for line in app_log(app, ["console"], follow=True, policy=FAST):
        found.append(line.text)
        if line.text == "b":
            app.tokens += 1  # the old one is refused from now on
        if line.text == "c":
            break
    assert found == ["a", "b", "c"]
    assert app.tokens == 3


def test_replicas_that_start_and_end_are_followed() -> None:
    app: Any = FakeApp(
        one=[[console(1, "a"), END], [console(1, "a"), END]], two=[[console(5, "b"), console(6, "c"), None]]
    )
    app.replicas = ["one"]
    found: list[str] = []
    for line in app_log(app, ["console"], follow=True, policy=FAST):
        found.append(line.text)
        if line.text == "a":
            app.replicas = ["two"]  # the stream of the first one returns 404 from now on
        if line.text == "c":
            break
    assert found == ["a", "b", "c"]


@pytest.mark.parametrize(("stopped", "reason"), [(False, "scaled to zero"), (True, "is stopped")])
def test_note_without_a_replica_names_the_page_with_earlier_lines(stopped: bool, reason: str) -> None:
    app = FakeApp()
    app.stopped = stopped
    (note,) = console_lines(app)
    assert note.kind == "note"
    assert reason in note.text
    assert "AnalyticsShareLinkToQuery" in note.text
    assert app.requests == []


def test_system_events_and_console_lines_are_merged() -> None:
    app: Any = FakeApp(one=[[console(2, "listening"), END]])
    hello = {
        "TimeStamp": "2026-05-14T14:00:00Z",
        "Msg": "Connecting to the events collector...",
        "ContainerAppName": None,
    }
    app.events = [
        [json.dumps(hello), event(1, "PulledImage", "pulled 'x'"), event(3, "ContainerStarted", "ok"), END]
    ]
    lines = list(app_log(app))
    assert texts(lines) == ["PulledImage: pulled 'x'", "listening", "ContainerStarted: ok"]
    assert [line.kind for line in lines] == ["system", "console", "system"]
    app.events = [[event(1, "Killing", "x"), END]]
    assert texts(app_log(app, ["system"])) == ["Killing: x"]


def test_busy_stream_is_retried_and_a_lasting_failure_is_raised() -> None:
    responses = [httpx.Response(429, headers={"retry-after": "0"}), httpx.Response(503)]
    app = FakeApp(one=[[console(1, "a"), END]])
    app.refuse = lambda _: responses.pop() if responses else None
    assert texts(console_lines(app)) == ["a"]
    app = FakeApp(one=[[END]])
    app.refuse = lambda _: httpx.Response(502)
    with pytest.raises(AzureFailed, match="3 times in a row: HTTP 502"):
        console_lines(app, policy=replace(FAST, max_failures=3))


def test_cancel_ends_following() -> None:
    app = FakeApp(one=[[console(1, "a"), END], [console(1, "a"), None]])
    progress = Progress()
    threading.Timer(0.5, progress.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        follow(app, 100, progress=progress)
    assert time.monotonic() - began < 2.5


def test_all_streams_are_read_in_one_thread_that_ends_with_the_iterator() -> None:
    names = [f"replica{number}" for number in range(8)]
    app: Any = FakeApp(**{name: [[END], [console(1, name), None]] for name in names})
    before = set(threading.enumerate())
    lines = app_log(app, ["console"], follow=True, policy=FAST)
    assert sorted(next(lines).text for _ in names) == names
    started = set(threading.enumerate()) - before
    assert [one.name for one in started if "log-token" not in one.name] == ["nbtoolkit-logs"]
    lines.close()  # type: ignore[attr-defined]
    assert not any(one.is_alive() for one in started)


def test_error_of_a_task_is_raised_to_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(SeenRecords, "is_new", broken)
    with pytest.raises(RecursionError, match="too deep"):
        console_lines(FakeApp(one=[[console(1, "a"), END]]))
    with pytest.raises(RecursionError, match="too deep"):
        follow(FakeApp(one=[[console(1, "a"), None]]), 1, tail=0)


def test_each_retry_of_a_stream_that_ends_at_once_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def pause(attempt: int, retry_after: float | None = None) -> float:
        attempts.append(attempt)
        return 0

    monkeypatch.setattr(stream, "pause_before_retry", pause)
    follow(FakeApp(one=[[END], [END], [END], [END], [console(1, "a"), None]]), 1)
    assert attempts == [1, 2, 3]  # the first stream was read for the last lines


def test_pauses_before_retries_grow_to_a_limit() -> None:
    pauses = [pause_before_retry(attempt) for attempt in range(1, 1500)]
    assert pauses[:3] == [0.25, 0.5, 1]
    assert pauses[-1] == 15
    assert pause_before_retry(1, 3) == 3
