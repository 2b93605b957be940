"""An app that was stopped for a change runs again, however the change ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure.container_apps.replica_poller import AppSnapshot
from nbtoolkit.azure.startup.activation import Activation
from nbtoolkit.azure.startup.new_revision import revise
from nbtoolkit.errors import AzureFailed, Cancelled, NbtoolkitError, ServerFailed
from nbtoolkit.progress import Progress


class FakeApp:
    """An app that is stopped and started, and whose steps fail as often as they are told to."""

    def __init__(self, **failures: list[BaseException]) -> None:
        self.stopped = False
        self.asked: list[str] = []
        self.provisioned = SimpleNamespace(app="tones")
        self._failures = failures

    def stop(self, progress: Progress) -> None:
        self._step("stop", progress)
        self.stopped = True

    def start(self, progress: Progress, meanwhile: Any = None) -> None:
        self._step("start", progress)
        self.stopped = False
        if meanwhile:
            meanwhile()

    def new_revision(
        self, reason: str, progress: Progress, meanwhile: Any = None, changes: Any = None
    ) -> None:
        self._step("new_revision", progress)

    def get(self) -> FakeApp:
        return self

    def _step(self, name: str, progress: Progress) -> None:
        progress.check()
        self.asked.append(name)
        if found := self._failures.get(name):
            raise found.pop(0)


def refused() -> AzureFailed:
    return AzureFailed("Azure refused.", next_step="ask again", code=None, status=500, request_id=None)


def change(app: Any, progress: Progress | None = None) -> None:
    revise(app, "downtime", "scale", {}, progress or Progress())


def test_a_change_with_downtime_stops_changes_and_starts() -> None:
    app = FakeApp()
    change(app)
    assert (app.asked, app.stopped) == (["stop", "new_revision", "start"], False)


@pytest.mark.parametrize("failed", [refused(), KeyboardInterrupt()])
def test_an_app_whose_change_fails_is_started_again(failed: BaseException) -> None:
    app = FakeApp(new_revision=[failed])
    with pytest.raises(NbtoolkitError, match="The app tones was started again") as said:
        change(app)
    assert not app.stopped
    assert isinstance(said.value, Cancelled) == isinstance(failed, KeyboardInterrupt)


def test_a_cancel_does_not_keep_the_app_from_being_started_again() -> None:
    progress = Progress()

    class Slow(FakeApp):
        def new_revision(self, *_: Any, **more: Any) -> None:
            progress.cancel()
            progress.check()

    app = Slow()
    with pytest.raises(Cancelled, match=r"Cancelled while.* The app tones was started again"):
        change(app, progress)
    assert (app.asked, app.stopped) == (["stop", "start"], False)


def test_a_start_that_fails_is_tried_once_more_and_the_state_is_said() -> None:
    app = FakeApp(start=[refused()])
    with pytest.raises(AzureFailed, match="was started again"):
        change(app)
    assert not app.stopped
    lasting = FakeApp(start=[refused(), refused()])
    with pytest.raises(AzureFailed, match=r"may be stopped.*Azure refused.*running=True"):
        change(lasting)
    assert lasting.stopped


def test_a_stop_that_azure_refuses_starts_nothing() -> None:
    app = FakeApp(stop=[refused()])
    with pytest.raises(AzureFailed, match="The app tones is not stopped"):
        change(app)
    assert app.asked == ["stop"]


def test_a_deploy_that_is_cancelled_in_its_downtime_starts_the_app_again() -> None:
    app: Any = FakeApp(start=[KeyboardInterrupt()])
    look: Any = SimpleNamespace(look=lambda **_: AppSnapshot())
    state: Any = SimpleNamespace(stopped=False)
    release: Any = SimpleNamespace(id="r-1")
    with pytest.raises(Cancelled, match="was started again"):
        Activation(app, look, state).go("downtime", release, Progress(), lambda: None)
    assert (app.asked, app.stopped) == (["stop", "start", "start"], False)


def test_a_server_that_fails_while_it_starts_is_not_started_twice() -> None:
    def fail() -> None:
        raise ServerFailed("it crashed.", next_step="see the log", reason="it crashed")

    app: Any = FakeApp()
    look: Any = SimpleNamespace(look=lambda **_: AppSnapshot())
    release: Any = SimpleNamespace(id="r-1")
    with pytest.raises(ServerFailed, match="The app tones is not stopped"):
        Activation(app, look, SimpleNamespace(stopped=False)).go("downtime", release, Progress(), fail)  # type: ignore[arg-type]
    assert app.asked == ["stop", "start"]
