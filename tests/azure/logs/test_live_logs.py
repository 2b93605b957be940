"""The app's log through the real SDK and TLS, against the double's streams and real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.logs.records import LogLine
from nbtoolkit.azure.logs.stream import FollowPolicy, app_log
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from tests.support.container_app_harness import APP, GROUP, Azure
from tests.support.container_app_harness import azure_fixture as azure_fixture

POLICY = FollowPolicy(list_interval=0.5)


@pytest.fixture
def app(azure: Azure) -> ContainerApp:
    azure.environment()
    provisioned = ResourceNames(azure.double.subscription, GROUP, "acct", "share", APP)
    return ContainerApp(Cloud.shared(), provisioned)


class Following:
    """Follow a log in a thread, as a widget does."""

    def __init__(self, lines: Iterator[LogLine]) -> None:
        self.seen: list[LogLine] = []
        self.error: Exception | None = None
        self._lines = lines
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for line in self._lines:
                self.seen.append(line)
        except Cancelled as error:
            self.error = error

    def wait(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + 20
        while self.count(text) < times and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.02)
        assert self.count(text) >= times, f"{text!r} did not come: {[str(line) for line in self.seen]}"

    def count(self, text: str) -> int:
        return sum(text in line.text for line in self.seen)

    def has_ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def test_following_continues_over_interruptions_redirects_and_expired_tokens(
    azure: Azure, app: ContainerApp
) -> None:
    azure.put()
    azure.apps.stream_tokens.lifetime = 2.0  # instead of an hour
    progress = Progress()
    following = Following(app_log(app, ["console"], follow=True, progress=progress, policy=POLICY))
    try:
        following.wait("listening")
        azure.ask("/print/1")
        following.wait("said /print/1")
        azure.apps.cut_log_streams()
        azure.ask("/print/2")
        following.wait("said /print/2")
        azure.apps.log_redirect = "logs.westus3.azurecontainerapps.dev"
        time.sleep(2.0)
        azure.apps.cut_log_streams()
        azure.ask("/print/3")
        following.wait("said /print/3")
    finally:
        progress.cancel()
    cancelled = time.monotonic()
    assert following.has_ended(5)
    assert time.monotonic() - cancelled < 2
    assert isinstance(following.error, Cancelled)
    assert [line.text for line in following.seen] == [
        "listening", "said /print/1", "said /print/2", "said /print/3",
    ]  # fmt: skip


def test_replicas_of_a_new_revision_are_followed(azure: Azure, app: ContainerApp) -> None:
    azure.put()
    progress = Progress()
    following = Following(app_log(app, follow=True, progress=progress, policy=POLICY))
    try:
        following.wait("listening")
        azure.put(suffix="next")
        following.wait("ContainerStarted")
        following.wait("listening", times=2)
    finally:
        progress.cancel()
    assert following.has_ended(5)
    replicas = {line.source for line in following.seen if line.text == "listening"}
    assert len(replicas) == 2
    assert len({(line.at, line.text) for line in following.seen}) == len(following.seen)


def test_reading_the_log_does_not_wake_an_app(azure: Azure, app: ContainerApp) -> None:
    azure.put(least=0)
    azure.apps.scale_to_zero(APP)
    before = azure.apps.ingress_requests(APP)
    (note,) = app_log(app, ["console"])
    assert note.kind == "note"
    assert "scaled to zero" in note.text
    events = list(app_log(app, ["system"]))
    assert "AssigningReplica" in " ".join(line.text for line in events)
    assert azure.apps.ingress_requests(APP) == before
    assert not azure.apps.app(APP).replicas()


def test_token_is_not_in_lines_or_output(
    azure: Azure, app: ContainerApp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.put()
    tokens: list[str] = []
    fetch = ContainerApp.auth_token
    monkeypatch.setattr(ContainerApp, "auth_token", lambda self: tokens.append(fetch(self)) or tokens[-1])
    lines = list(app_log(app))
    assert lines
    assert len(tokens) == 1
    output = f"{lines}{app!r}{azure.double.requests}{capsys.readouterr()}"
    assert tokens[0] not in output
