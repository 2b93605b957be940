"""An app that was stopped for a change is started again, however the change ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.startup.activation import Activation, change_template
from nbtoolkit.errors import AzureFailed, Cancelled, NbtoolkitError, ServerFailed
from nbtoolkit.progress import Progress


class FakeApp:
    """An app whose steps raise the queued errors."""

    def __init__(self, **failures: list[BaseException]) -> None:
        self.stopped = False
        self.steps: list[str] = []
        self.provisioned = SimpleNamespace(app="tones")
        self._failures = failures

    def stop(self, progress: Progress) -> None:
        self._step("stop", progress)
        self.stopped = True

    def start(self, progress: Progress, on_poll: Any = None) -> None:
        self._step("start", progress)
        self.stopped = False
        if on_poll:
            on_poll()

    def new_revision(self, reason: str, progress: Progress, on_poll: Any = None, changes: Any = None) -> None:
        self._step("new_revision", progress)

    def get(self) -> FakeApp:
        return self

    def _step(self, name: str, progress: Progress) -> None:
        progress.check()
        self.steps.append(name)
        if found := self._failures.get(name):
            raise found.pop(0)


def refused() -> AzureFailed:
    return AzureFailed("Azure refused.", next_step="ask again", code=None, status=500, request_id=None)


def change(app: Any, progress: Progress | None = None) -> None:
    change_template(app, "downtime", "scale", {}, progress or Progress())


def test_change_with_downtime_stops_changes_and_starts() -> None:
    app = FakeApp()
    change(app)
    assert (app.steps, app.stopped) == (["stop", "new_revision", "start"], False)


@pytest.mark.parametrize("failed", [refused(), KeyboardInterrupt()])
def test_app_is_started_again_after_a_failed_change(failed: BaseException) -> None:
    app = FakeApp(new_revision=[failed])
    with pytest.raises(NbtoolkitError, match="The app tones was started again") as raised:
        change(app)
    assert not app.stopped
    assert isinstance(raised.value, Cancelled) == isinstance(failed, KeyboardInterrupt)


def test_app_is_started_again_after_a_cancel() -> None:
    progress = Progress()

    class Slow(FakeApp):
        def new_revision(self, *_: Any, **more: Any) -> None:
            progress.cancel()
            progress.check()

    app = Slow()
    with pytest.raises(Cancelled, match=r"Cancelled while.* The app tones was started again"):
        change(app, progress)
    assert (app.steps, app.stopped) == (["stop", "start"], False)


def test_failed_start_is_retried_once_and_the_error_has_the_state() -> None:
    app = FakeApp(start=[refused()])
    with pytest.raises(AzureFailed, match="was started again"):
        change(app)
    assert not app.stopped
    lasting = FakeApp(start=[refused(), refused()])
    with pytest.raises(AzureFailed, match=r"may be stopped.*Azure refused.*running=True"):
        change(lasting)
    assert lasting.stopped


def test_refused_stop_starts_nothing() -> None:
    app = FakeApp(stop=[refused()])
    with pytest.raises(AzureFailed, match="The app tones is not stopped"):
        change(app)
    assert app.steps == ["stop"]


def test_deploy_cancelled_during_downtime_starts_the_app_again() -> None:
    app: Any = FakeApp(start=[KeyboardInterrupt()])
    poller: Any = SimpleNamespace(snapshot=lambda **_: AppSnapshot())
    state: Any = SimpleNamespace(stopped=False)
    release: Any = SimpleNamespace(id="r-1")
    with pytest.raises(Cancelled, match="was started again"):
        Activation(app, poller, state).run("downtime", release, Progress(), lambda: None)
    assert (app.steps, app.stopped) == (["stop", "start", "start"], False)


def test_server_that_fails_during_its_start_is_not_started_twice() -> None:
    def fail() -> None:
        raise ServerFailed("it crashed.", next_step="see the log", reason="it crashed")

    app: Any = FakeApp()
    poller: Any = SimpleNamespace(snapshot=lambda **_: AppSnapshot())
    release: Any = SimpleNamespace(id="r-1")
    with pytest.raises(ServerFailed, match="The app tones is not stopped"):
        Activation(app, poller, SimpleNamespace(stopped=False)).run("downtime", release, Progress(), fail)  # type: ignore[arg-type]
    assert app.steps == ["stop", "start"]
