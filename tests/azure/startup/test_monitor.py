"""The start of replicas: phases and durations, lasting trouble told from passing trouble, wake-ups."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from nbtoolkit.azure.container_apps.models import ContainerState, ReplicaState
from nbtoolkit.azure.container_apps.stale_cache import LastAnswer
from nbtoolkit.azure.startup.heartbeats import Heartbeats
from nbtoolkit.azure.startup.timeline import StartupEvent, Timeline
from nbtoolkit.azure.startup.wake_up import WakeUpPoller, ask
from nbtoolkit.errors import AzureFailed, NotInStore
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.serving.share_layout import Heartbeat

NOW = datetime.now(UTC)


def replica(state: str = "Running", details: str = "", restarts: int = 0, name: str = "a") -> ReplicaState:
    container = ContainerState("inference", state, "", ready=False, started=False, restarts=restarts)
    return ReplicaState(name, NOW, "Running" if state == "Running" else "NotRunning", details, (container,))


def beat(phase: str, name: str = "a", age: float = 0, **more: object) -> Heartbeat:
    found = {"replica": name, "at": datetime.now(UTC) - timedelta(seconds=age), "phase": phase, **more}
    return Heartbeat.model_validate(found)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_start_is_told_phase_by_phase_from_arm_and_heartbeats_alone() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    steps: list[tuple[float, list[ReplicaState], Heartbeat | None]] = [
        (0, [], None),
        (20, [replica("Waiting", "AssigningReplica")], None),
        (10, [replica("Waiting")], None),
        (5, [replica()], None),
        (7, [replica()], beat("starting")),
        (1, [replica()], beat("loading")),
        (60, [replica()], beat("ready")),
    ]
    said: list[str] = []
    for seconds, replicas, word in steps:
        clock.now += seconds
        timeline.see(replicas, {"a": word})
        said.append(timeline.doing())
    assert said[0] == "no replica yet: Requested (Azure shows no replica yet)"
    assert said[2].endswith(
        "(the machine fetches the image and mounts the share), after Requested 20 s, AssigningReplica 10 s"
    )
    assert said[-1] == ""
    assert str(timeline) == (
        "a: Requested 20 s → AssigningReplica 10 s → PullingImage 5 s → Installing 7 s "
        "→ starting the server 1 s → loading weights 60 s → ready"
    )


def test_events_make_the_timeline_finer_and_give_the_reason() -> None:
    timeline = Timeline()
    waiting = replica("Waiting")
    timeline.see(
        [waiting], {}, [StartupEvent("a", "PullingImage"), StartupEvent("a", "FailedMount", "MountVolume no")]
    )
    assert timeline.doing() == "a: PullingImage (MountVolume no)"
    timeline.see([waiting], {}, [StartupEvent("a", "AssigningReplica")])
    assert "AssigningReplica" in timeline.doing()


def test_replicas_of_before_are_not_part_of_a_start() -> None:
    timeline = Timeline(old=["a"])
    timeline.see([replica(), replica("Waiting", name="b")], {"a": beat("ready")})
    assert "a:" not in timeline.doing()
    assert "b: PullingImage" in timeline.doing()


def test_a_long_phase_is_told_again_every_half_minute() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    lines = set[str]()
    for _ in range(65):
        timeline.see([replica("Waiting", "AssigningReplica")], {})
        lines.add(timeline.doing())
        clock.now += 1
    assert len(lines) == 3
    assert timeline.waits("AssigningReplica") == 65


def test_no_replica_at_all_is_no_search_for_a_machine() -> None:
    clock = Clock()
    timeline = Timeline(clock=clock)
    clock.now += 1000
    timeline.see([], {})
    assert timeline.waits("AssigningReplica") == 0
    timeline.see([replica("Waiting", "AssigningReplica")], {})
    assert timeline.waits("AssigningReplica") == 0


class Ingress(BaseHTTPRequestHandler):
    """Answer what the test put into line."""

    line: list[tuple[int, str, str]]

    def do_GET(self) -> None:
        status, kind, text = self.line.pop(0) if len(self.line) > 1 else self.line[0]
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def ingress() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingress)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


HELD = (504, "text/plain", "stream timeout")


@pytest.mark.parametrize(
    ("answer", "who"),
    [
        (HELD, "starting"),
        ((503, "text/plain", "upstream connect error"), "none"),
        ((403, "text/html", "<html>Access denied by your company"), "none"),
        ((302, "text/html", "<html>Sign in to the proxy"), "none"),
        ((404, "text/html", "This Container App is stopped or does not exist"), "none"),
        ((403, "text/plain", "RBAC: access denied"), "refused"),
        ((200, "application/json", "{}"), "server"),
        ((404, "application/json", "{}"), "server"),
        ((503, "application/json", '{"error": {}}'), "server"),
    ],
)
def test_the_ingress_is_told_apart_from_a_server(
    ingress: str, answer: tuple[int, str, str], who: str
) -> None:
    Ingress.line = [answer]
    with httpx.Client() as client:
        assert ask(client, ingress, ours=True)[0] == who
        assert ask(client, "http://127.0.0.1:9")[0] == "none"


def test_a_waker_asks_again_after_the_ingress_gave_up(ingress: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbtoolkit.azure.startup.wake_up._PAUSE", 0.01)
    Ingress.line = [HELD, HELD, (200, "application/json", "{}")]
    waker = WakeUpPoller(ingress).start()
    deadline = time.monotonic() + 5
    while not waker.awake and time.monotonic() < deadline:
        time.sleep(0.01)
    waker.end()
    assert (waker.awake, waker.gave_up) == (True, 2)


def test_only_replicas_that_all_say_so_freshly_are_believed_without_azure(tmp_path: Path) -> None:
    folder = tmp_path / "nbtoolkit" / "replicas"
    folder.mkdir(parents=True)
    beats = Heartbeats(LocalFolder(tmp_path))

    def write(*found: Heartbeat) -> None:
        for one in found:
            (folder / f"{one.replica}.json").write_text(one.model_dump_json())

    assert beats.all_ready() == ()
    write(beat("ready", "a"), beat("ready", "b"), beat("ready", "old", age=100), beat("stopped", "gone"))
    assert beats.all_ready() == ("a", "b")
    write(beat("loading", "b"))
    assert beats.all_ready() == ()
    write(beat("ready", "a", age=-100), beat("ready", "b", age=100))  # clocks that disagree
    assert beats.all_ready() == ()
    (folder / "torn.json").write_text('{"replica": "to')
    write(beat("ready", "old", age=4000))
    beats.sweep({"a", "b"})
    assert sorted(path.stem for path in folder.iterdir()) == ["a", "b", "gone", "torn"]


def test_a_look_that_fails_now_and_then_is_borne_and_a_lasting_failure_is_not() -> None:
    def failed(status: int | None) -> AzureFailed:
        return AzureFailed("no", next_step="x", status=status, code=None, request_id=None)

    answers: list[object] = [1, failed(503), failed(None), 2, failed(404)]

    def question() -> object:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    last = LastAnswer()
    assert [last.ask("x", question) for _ in range(4)] == [1, 1, 1, 2]
    with pytest.raises(AzureFailed):
        last.ask("x", question)
    answers[:] = [failed(503)]
    with pytest.raises(AzureFailed):
        LastAnswer().ask("x", question)
    answers[:] = [1, failed(503)]
    short = LastAnswer(seconds=-1)
    short.ask("x", question)
    with pytest.raises(AzureFailed):
        short.ask("x", question)
    with pytest.raises(NotInStore):
        last.ask("x", lambda: LocalFolder(Path("/nowhere")).read("x"))


def test_json_of_a_heartbeat_is_what_the_server_writes(tmp_path: Path) -> None:
    (tmp_path / "nbtoolkit" / "replicas").mkdir(parents=True)
    content = {"replica": "a", "at": NOW.isoformat(), "phase": "failed", "last_error": "no wheels"}
    (tmp_path / "nbtoolkit" / "replicas" / "a.json").write_text(json.dumps(content))
    found = Heartbeats(LocalFolder(tmp_path)).of("a")
    assert found is not None
    assert (found.phase, found.last_error) == ("failed", "no wheels")
