"""Deploys to this machine, with a stub in the engine's place and everything else real."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import Adapter, DeploySettings, Endpoint, LocalTarget, deploy, rollback
from nbtoolkit.deployment import fingerprint_proof as deployment_proof
from nbtoolkit.deployment.hash_cache import use_cached_sha256
from nbtoolkit.errors import (
    Busy,
    Cancelled,
    DeployFailed,
    InvalidAdapter,
    InvalidSettings,
    RequestRefused,
    SmokeTestFailed,
)
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving import content_hash
from nbtoolkit.serving.release import Release
from tests.support import stub_deploy as deploy_double
from tests.support.processes import processes_of
from tests.support.stub_deploy import Place


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server's code with the stub; deploys of this process send it."""
    code = deploy_double.server_code(tmp_path_factory.mktemp("code"))
    patch = deploy_double.use_stub(code)
    yield code
    patch.undo()


@pytest.fixture
def place(stub: Path, tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "workspace")
    yield place
    place.target.destroy()


def starts(place: Place) -> int:
    beat = place.target.heartbeat()
    assert beat
    return beat.engine_starts


def test_deploy_serves_the_adapter_and_proves_it(place: Place) -> None:
    done = deploy(place.settings(place.adapter("red")), target=place.target)
    assert place.says() == "red"
    assert done.proof
    assert done.proof.verdicts["tone"].matched == 16
    assert done.how == "start"
    assert done.sync.sent_files > 10
    assert done.endpoint.release == done.release.id
    assert done.endpoint.health().phase == "ready"
    assert {model.id: model.parent for model in done.endpoint.models()}["tone"] == "tiny"
    key = done.endpoint.key.get_secret_value()
    for shown in (str(done), repr(done), done._repr_html_()):
        assert key not in shown
        assert done.endpoint.url in shown
        assert done.release.id in shown
        assert "proven: 16 of 16" in shown
        assert str(place.target.root / "api-key") in shown
        assert "target.stop()" in shown


def test_deploying_the_same_again_sends_and_publishes_nothing_and_still_proves(place: Place) -> None:
    settings = place.settings(place.adapter("red"))
    first = deploy(settings, target=place.target)
    begin = time.monotonic()
    again = deploy(settings, target=LocalTarget(place.workspace, keep=False))
    assert time.monotonic() - begin < 2
    assert again.release == first.release
    assert (again.sync.sent_files, again.sync.sent_bytes) == (0, 0)
    assert again.how == "unchanged"
    assert again.proof
    assert [pointer.n for pointer in publisher.pointer_history(place.target.share)] == [1]
    assert starts(place) == 1


def test_stopped_server_is_started_again_by_the_same_deploy(place: Place) -> None:
    settings = place.settings(place.adapter("red"))
    deploy(settings, target=place.target)
    place.target.stop()
    again = deploy(settings, target=place.target)
    assert (again.how, again.sync.sent_files, place.says()) == ("start", 0, "red")
    assert len(publisher.pointer_history(place.target.share)) == 1


def test_new_adapter_is_swapped_without_a_restart(place: Place) -> None:
    deploy(place.settings(place.adapter("red")), target=place.target)
    begin = time.monotonic()
    done = deploy(place.settings(place.adapter("blue")), target=place.target)
    assert time.monotonic() - begin < 10
    assert (done.how, place.says(), starts(place)) == ("hot swap", "blue", 1)
    assert done.previous is not None
    assert "rollback()" in str(done)


def test_changed_engine_needs_a_restart(place: Place) -> None:
    red = place.adapter("red")
    deploy(place.settings(red), target=place.target)
    before = place.target.status().facts["process"].split(",")[0]
    done = deploy(place.settings(red, max_concurrency=4), target=place.target)
    assert (done.how, place.says()) == ("restart", "red")
    assert place.target.status().facts["process"].split(",")[0] != before


def test_deploy_without_a_smoke_report_says_what_to_run(place: Place) -> None:
    untested = place.adapter("red", proven=False)
    with pytest.raises(SmokeTestFailed, match=r"no smoke report for sha256 .* on tiny") as caught:
        deploy(place.settings(untested), target=place.target)
    assert "smoke_test" in caught.value.next_step
    assert publisher.active_pointer(place.target.share) is None
    assert processes_of(place.target) == []


def test_report_of_other_bytes_does_not_count(place: Place) -> None:
    red = place.adapter("red")
    deploy_double.adapter(red, "crimson")  # trained further after the smoke test
    with pytest.raises(SmokeTestFailed, match="no smoke report"):
        deploy(place.settings(red), target=place.target)


def test_report_that_is_not_green_names_the_check(place: Place) -> None:
    red = place.adapter("red", proven=False)
    deploy_double.report(place.workspace, red, place.base, "red", failed=True)
    with pytest.raises(SmokeTestFailed, match="A6 numbers: NaN in w"):
        deploy(place.settings(red), target=place.target)


def test_report_of_another_precision_does_not_count(place: Place) -> None:
    with pytest.raises(SmokeTestFailed, match=r"with dtype 'auto', but is to be served with 'float16'"):
        deploy(place.settings(place.adapter("red"), dtype="float16"), target=place.target)


def test_override_lets_through_and_is_kept_in_the_release(place: Place) -> None:
    untested = place.adapter("red", proven=False)
    done = deploy(place.settings(untested, override_reason="a demo"), target=place.target)
    assert done.release.override_reason == "a demo"
    stored = publisher.read_release(place.target.share, done.release.id)
    assert stored.override_reason == "a demo"
    assert not done.proof
    assert "without a smoke report" in str(done.proof)
    assert "a demo" in str(done)
    assert place.says() == "red"


def test_reason_is_not_kept_where_none_was_needed(place: Place) -> None:
    done = deploy(place.settings(place.adapter("red"), override_reason="to be sure"), target=place.target)
    assert done.release.override_reason is None


def test_rollback_goes_back_and_further_back(place: Place) -> None:
    ids: list[str] = []
    for word in ("red", "blue", "green"):
        ids.append(deploy(place.settings(place.adapter(word)), target=place.target).release.id)
    shutil.rmtree(place.workspace.root / "adapters")  # what is on the share is enough
    done = rollback(target=place.target)
    assert (done.release.id, place.says(), starts(place)) == (ids[1], "blue", 1)
    assert done.proof
    assert done.sync.sent_files == 0
    assert rollback(target=place.target).release.id == ids[0]
    assert place.says() == "red"
    with pytest.raises(InvalidSettings, match="nothing was deployed before"):
        rollback(target=place.target)
    assert rollback(ids[2], target=place.target).release.id == ids[2]
    assert place.says() == "green"


def test_rollback_to_an_unknown_release_lists_the_history(place: Place) -> None:
    with pytest.raises(InvalidSettings, match="nothing was deployed yet"):
        rollback(target=place.target)
    done = deploy(place.settings(place.adapter("red")), target=place.target)
    with pytest.raises(InvalidSettings, match=rf"no release 'r-none'(.|\n)*1: {done.release.id}"):
        rollback("r-none", target=place.target)


def test_rollback_to_deleted_bytes_is_refused_before_anything_changes(place: Place) -> None:
    deploy(place.settings(place.adapter("red")), target=place.target)
    first = publisher.active_pointer(place.target.share)
    deploy(place.settings(place.adapter("blue")), target=place.target)
    assert first
    gone = publisher.read_release(place.target.share, first.release).adapters[0].path
    shutil.rmtree(place.target.mount / gone)
    with pytest.raises(InvalidSettings, match=r"tone .* no longer on the share"):
        rollback(target=place.target)
    assert place.says() == "blue"


def refuse_to_activate(patch: pytest.MonkeyPatch, release: str | None, problem: BaseException) -> None:
    """Let the target raise when it shall start another release than this one."""
    real = LocalTarget.activate

    def activate(self: LocalTarget, wanted: Release, **how: Any) -> None:
        if wanted.id != release:
            raise problem
        real(self, wanted, **how)

    patch.setattr(LocalTarget, "activate", activate)


def cut_off(*_: object, **__: object) -> None:
    """Answer as what is on a folder that is gone."""
    raise FileNotFoundError("/nowhere")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("problem", [FULL, KeyError("phase")], ids=["full disk", "odd answer"])
def test_whatever_goes_wrong_after_publishing_what_served_before_is_put_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    first = deploy(place.settings(place.adapter("red")), target=place.target)
    with monkeypatch.context() as patch:
        refuse_to_activate(patch, first.release.id, problem)
        with pytest.raises(DeployFailed, match=f"{first.release.id} serves again") as caught:
            deploy(place.settings(place.adapter("blue")), target=place.target)
    assert type(problem).__name__ in caught.value.message
    assert caught.value.__cause__ is problem
    active = publisher.active_pointer(place.target.share)
    assert active
    assert active.release == first.release.id
    assert place.says() == "red"


def test_failure_is_told_with_its_first_cause_where_putting_back_fails_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(place.settings(place.adapter("red")), target=place.target)
    refuse_to_activate(monkeypatch, None, FULL)
    monkeypatch.setattr(LocalTarget, "logs", cut_off)
    with pytest.raises(DeployFailed, match=r"failed too: OSError(.|\n)*the log cannot be read") as caught:
        deploy(place.settings(place.adapter("blue")), target=place.target)
    assert caught.value.__cause__ is FULL


@pytest.mark.parametrize("on_load", ["refuse", "die"])
def test_adapter_that_does_not_load_leaves_the_old_one_serving(place: Place, on_load: str) -> None:
    first = deploy(place.settings(place.adapter("red")), target=place.target)
    bad = place.adapter("bad", on_load=on_load)
    with pytest.raises(DeployFailed, match=f"Release {first.release.id} serves again") as caught:
        deploy(place.settings(bad), target=place.target)
    assert ("missing keys" if on_load == "refuse" else "the engine ended") in str(caught.value)
    assert "Last log lines" in str(caught.value)
    assert place.says() == "red"
    active = publisher.active_pointer(place.target.share)
    assert active
    assert active.release == first.release.id
    assert place.target.status().state == "ready"
    assert deploy(place.settings(place.adapter("red")), target=place.target).proof


def test_restart_that_fails_puts_the_old_release_back(place: Place) -> None:
    red = place.adapter("red")
    first = deploy(place.settings(red), target=place.target)
    bad = place.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=f"missing keys(.|\n)*{first.release.id} serves again"):
        deploy(place.settings(bad, max_concurrency=4), target=place.target)
    assert place.says() == "red"
    assert deploy(place.settings(red), target=place.target).how == "unchanged"


def test_adapter_that_is_not_what_its_report_says_is_not_served(place: Place) -> None:
    deploy(place.settings(place.adapter("red")), target=place.target)
    with pytest.raises(DeployFailed, match="not what answers"):
        deploy(place.settings(place.adapter("blue", proven_as="green")), target=place.target)
    assert place.says() == "red"


def test_first_deploy_that_fails_leaves_nothing_running(place: Place) -> None:
    bad = place.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=r"missing keys(.|\n)*nothing runs now"):
        deploy(place.settings(bad), target=place.target)
    assert processes_of(place.target) == []
    deploy(place.settings(place.adapter("red")), target=place.target)
    assert place.says() == "red"


def test_failed_deploy_after_a_stop_does_not_stay_the_one_to_start(place: Place) -> None:
    first = deploy(place.settings(place.adapter("red")), target=place.target)
    place.target.stop()
    with pytest.raises(DeployFailed, match="nothing runs now"):
        deploy(place.settings(place.adapter("bad", on_load="refuse")), target=place.target)
    active = publisher.active_pointer(place.target.share)
    assert active
    assert active.release == first.release.id


def test_release_that_served_before_is_left_alone_where_its_proof_cannot_be_made(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = place.settings(place.adapter("red"))
    deploy(settings, target=place.target)

    def busy(*_: object, **__: object) -> None:
        raise RequestRefused("the queue is full", next_step="wait", status=429, code="queue_full")

    with monkeypatch.context() as patch:
        patch.setattr(deployment_proof, "BUSY_ATTEMPTS", 2)
        patch.setattr(Endpoint, "prove", busy)
        with pytest.raises(DeployFailed, match=r"queue is full(.|\n)*left unchanged"):
            deploy(settings, target=place.target)
    assert place.says() == "red"


def test_server_that_cannot_start_shows_its_log(place: Place) -> None:
    place.target = LocalTarget(place.workspace, keep=False, env={"NBTOOLKIT_POLL": "never"})
    with pytest.raises(DeployFailed, match=r"exit code 2(.|\n)*NBTOOLKIT_POLL='never'"):
        deploy(place.settings(place.adapter("red")), target=place.target)
    assert processes_of(place.target) == []


def test_bad_adapter_stops_before_anything_is_touched(place: Place) -> None:
    with pytest.raises(InvalidAdapter, match="A1"):
        deploy(place.settings(place.workspace.root / "nowhere"), target=place.target)
    assert processes_of(place.target) == []


class CancelAt(Progress):
    """Cancel when a phase begins."""

    def __init__(self, phase: str) -> None:
        super().__init__()
        self._phase = phase

    def show(self, text: str) -> None:
        if text.startswith(self._phase):
            self.cancel()


def test_cancel_before_publishing_leaves_the_old_one(place: Place) -> None:
    first = deploy(place.settings(place.adapter("red")), target=place.target).release.id
    with pytest.raises(Cancelled, match=f"Nothing was published; the server still serves {first}"):
        deploy(place.settings(place.adapter("blue")), target=place.target, progress=CancelAt("Sending"))
    assert place.says() == "red"


def test_cancel_after_publishing_says_what_still_runs(place: Place) -> None:
    deploy(place.settings(place.adapter("red")), target=place.target)
    with pytest.raises(Cancelled, match=r"was published by .*; the server will swap to it") as caught:
        deploy(place.settings(place.adapter("blue")), target=place.target, progress=CancelAt("Waiting"))
    assert "rollback()" in caught.value.next_step
    assert deploy(place.settings(place.adapter("blue")), target=place.target).proof
    assert place.says() == "blue"


class InterruptAt(Progress):
    """Do what ■ does when a line is shown."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = line

    def show(self, text: str) -> None:
        if text.startswith(self._line):
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  it failed", "{bad} was published by"),
        ("Waiting until the server serves {first}", "{first} was published again by"),
    ],
    ids=["before the old one is public again", "after it"],
)
def test_interrupt_while_putting_back_tells_what_is_public(place: Place, line: str, said: str) -> None:
    first = deploy(place.settings(place.adapter("red")), target=place.target).release.id
    bad = place.adapter("bad", on_load="refuse")
    stop = InterruptAt(line.format(first=first))
    with pytest.raises(Cancelled, match=r"missing keys(.|\n)*while the previous release") as caught:
        deploy(place.settings(bad), target=place.target, progress=stop)
    active = publisher.active_pointer(place.target.share)
    assert active
    assert vars(caught.value)["release"] == active.release
    assert said.format(first=first, bad=active.release) in caught.value.message
    assert (active.release == first) == ("first" in line)
    deploy(place.settings(place.adapter("red")), target=place.target)
    assert place.says() == "red"


def test_interrupt_just_after_the_pointer_was_written_does_not_deny_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.publish_release

    def interrupted(*what: Any, **how: Any) -> None:
        real(*what, **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "publish_release", interrupted)
        with pytest.raises(Cancelled, match=r"Interrupted\. r-.* was published by .*; no server runs"):
            deploy(place.settings(place.adapter("red")), target=place.target)
    deploy(place.settings(place.adapter("red")), target=place.target)
    assert place.says() == "red"


def test_interrupt_of_a_deploy_whose_share_no_longer_answers_is_still_told_as_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutOff(Progress):
        def show(self, text: str) -> None:
            if text.startswith("Sending"):
                monkeypatch.setattr(publisher, "active_pointer", cut_off)
                raise KeyboardInterrupt

    with pytest.raises(Cancelled, match=r"Interrupted\. The active release cannot be read: FileNotFound"):
        deploy(place.settings(place.adapter("red")), target=place.target, progress=CutOff())


def test_one_deploy_at_a_time_in_a_workspace(place: Place) -> None:
    settings = place.settings(place.adapter("red"))
    with place.workspace.lock("deploy", target=place.target.name):
        outcome: list[BaseException] = []

        def other() -> None:
            try:
                deploy(settings, target=place.target)
            except Busy as error:
                outcome.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "'deploy'" in str(outcome[0])


def test_unchanged_large_adapter_is_not_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    red = place.adapter("red", size=2_000_000)
    time.sleep(2.1)  # its times must be settled before a hash is remembered
    settings = place.settings(red)
    deploy(settings, target=place.target)
    read: list[str] = []
    real = content_hash.file_sha256
    monkeypatch.setattr(content_hash, "file_sha256", lambda path: read.append(path.parent.name) or real(path))
    assert deploy(settings, target=place.target).how == "unchanged"
    assert "red" not in read
    assert read, "the server's code is hashed every time"
    monkeypatch.undo()
    known = json.loads((place.workspace.state / "adapter-hashes.json").read_text())
    deploy_double.adapter(red, "crimson", size=2_000_000)
    with pytest.raises(SmokeTestFailed, match="no smoke report"):
        deploy(settings, target=place.target)
    assert list(known) == [str(red)]


def test_full_disk_does_not_fail_an_adapters_hash(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    red = Adapter.read(place.adapter("red"))
    with monkeypatch.context() as patch:

        def full(_: object) -> None:
            raise FULL

        patch.setattr(os, "fsync", full)
        use_cached_sha256(red, place.workspace, min_age=-60)
    assert sorted(path.name for path in place.workspace.state.iterdir()) == [".gitignore", "reports"]
    use_cached_sha256(red, place.workspace, min_age=-60)
    assert json.loads((place.workspace.state / "adapter-hashes.json").read_text())[str(red.path)]["sha256"]


def test_settings_take_one_folder_a_list_or_names() -> None:
    def names(adapters: object) -> list[str]:
        return list(DeploySettings(adapters=adapters, base="b").adapters)

    assert names("runs/tone") == ["tone"]
    assert names(["a/tone", Path("b/colour")]) == ["tone", "colour"]
    assert names({"x": "a/tone"}) == ["x"]
    with pytest.raises(InvalidSettings, match="same name"):
        names(["a/adapter", "b/adapter"])
    with pytest.raises(InvalidSettings, match="adapters is empty"):
        names("")
    with pytest.raises(InvalidSettings, match="base is empty"):
        DeploySettings(adapters="a/tone")
    with pytest.raises(InvalidSettings, match="override_reason"):
        DeploySettings(adapters="a/tone", base="b", overide_reason="x")


def test_settings_say_which_smoke_tests_they_ask_for() -> None:
    settings = DeploySettings(adapters={"x": "a", "y": "b"}, base="tiny", dtype="float32")
    asked = [(str(one.adapter), one.base, one.dtype) for one in settings.smoke_settings()]
    assert asked == [("a", "tiny", "float32"), ("b", "tiny", "float32")]
