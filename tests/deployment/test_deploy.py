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
from nbtoolkit.releases import publisher
from nbtoolkit.serving import content_hash
from nbtoolkit.serving.release import Release
from tests.support import stub_deploy
from tests.support.processes import processes_of
from tests.support.recording_progress import call_at, cancel_at, raise_at
from tests.support.stub_deploy import LocalProject


@pytest.fixture
def project(stub_engine: None, tmp_path: Path) -> Iterator[LocalProject]:
    project = LocalProject(tmp_path / "workspace")
    yield project
    project.target.destroy()


def starts(project: LocalProject) -> int:
    beat = project.target.heartbeat()
    assert beat
    return beat.engine_starts


def test_deploy_serves_the_adapter_and_proves_it(project: LocalProject) -> None:
    done = project.deploy("red")
    assert project.says() == "red"
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
        assert str(project.target.root / "api-key") in shown
        assert "target.stop()" in shown


def test_deploying_the_same_again_sends_and_publishes_nothing_and_still_proves(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"))
    first = deploy(settings, target=project.target)
    begin = time.monotonic()
    again = deploy(settings, target=LocalTarget(project.workspace, keep=False))
    assert time.monotonic() - begin < 2
    assert again.release == first.release
    assert (again.sync.sent_files, again.sync.sent_bytes) == (0, 0)
    assert again.how == "unchanged"
    assert again.proof
    assert [pointer.n for pointer in publisher.pointer_history(project.target.share)] == [1]
    assert starts(project) == 1


def test_stopped_server_is_started_again_by_the_same_deploy(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"))
    deploy(settings, target=project.target)
    project.target.stop()
    again = deploy(settings, target=project.target)
    assert (again.how, again.sync.sent_files, project.says()) == ("start", 0, "red")
    assert len(publisher.pointer_history(project.target.share)) == 1


def test_new_adapter_is_swapped_without_a_restart(project: LocalProject) -> None:
    project.deploy("red")
    begin = time.monotonic()
    done = project.deploy("blue")
    assert time.monotonic() - begin < 10
    assert (done.how, project.says(), starts(project)) == ("hot swap", "blue", 1)
    assert done.previous is not None
    assert "rollback()" in str(done)


def test_changed_engine_needs_a_restart(project: LocalProject) -> None:
    red = project.adapter("red")
    deploy(project.settings(red), target=project.target)
    before = project.target.status().facts["process"].split(",")[0]
    done = deploy(project.settings(red, max_concurrency=4), target=project.target)
    assert (done.how, project.says()) == ("restart", "red")
    assert project.target.status().facts["process"].split(",")[0] != before


def test_deploy_without_a_smoke_report_says_what_to_run(project: LocalProject) -> None:
    untested = project.adapter("red", proven=False)
    with pytest.raises(SmokeTestFailed, match=r"no smoke report for sha256 .* on tiny") as caught:
        deploy(project.settings(untested), target=project.target)
    assert "smoke_test" in caught.value.next_step
    assert publisher.active_pointer(project.target.share) is None
    assert processes_of(project.target) == []


def test_report_of_other_bytes_does_not_count(project: LocalProject) -> None:
    red = project.adapter("red")
    stub_deploy.adapter(red, "crimson")  # trained further after the smoke test
    with pytest.raises(SmokeTestFailed, match="no smoke report"):
        deploy(project.settings(red), target=project.target)


def test_report_that_is_not_green_names_the_check(project: LocalProject) -> None:
    red = project.adapter("red", proven=False)
    stub_deploy.report(project.workspace, red, project.base, "red", failed=True)
    with pytest.raises(SmokeTestFailed, match="A6 numbers: NaN in w"):
        deploy(project.settings(red), target=project.target)


def test_report_of_another_precision_does_not_count(project: LocalProject) -> None:
    with pytest.raises(SmokeTestFailed, match=r"with dtype 'auto', but is to be served with 'float16'"):
        project.deploy("red", dtype="float16")


def test_override_lets_through_and_is_kept_in_the_release(project: LocalProject) -> None:
    untested = project.adapter("red", proven=False)
    done = deploy(project.settings(untested, override_reason="a demo"), target=project.target)
    assert done.release.override_reason == "a demo"
    stored = publisher.read_release(project.target.share, done.release.id)
    assert stored.override_reason == "a demo"
    assert not done.proof
    assert "without a smoke report" in str(done.proof)
    assert "a demo" in str(done)
    assert project.says() == "red"


def test_reason_is_not_kept_where_none_was_needed(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"), override_reason="to be sure")
    done = deploy(settings, target=project.target)
    assert done.release.override_reason is None


def test_rollback_goes_back_and_further_back(project: LocalProject) -> None:
    ids: list[str] = []
    for word in ("red", "blue", "green"):
        ids.append(project.deploy(word).release.id)
    shutil.rmtree(project.workspace.root / "adapters")  # what is on the share is enough
    done = rollback(target=project.target)
    assert (done.release.id, project.says(), starts(project)) == (ids[1], "blue", 1)
    assert done.proof
    assert done.sync.sent_files == 0
    assert rollback(target=project.target).release.id == ids[0]
    assert project.says() == "red"
    with pytest.raises(InvalidSettings, match="nothing was deployed before"):
        rollback(target=project.target)
    assert rollback(ids[2], target=project.target).release.id == ids[2]
    assert project.says() == "green"


def test_rollback_to_an_unknown_release_lists_the_history(project: LocalProject) -> None:
    with pytest.raises(InvalidSettings, match="nothing was deployed yet"):
        rollback(target=project.target)
    done = project.deploy("red")
    with pytest.raises(InvalidSettings, match=rf"no release 'r-none'(.|\n)*1: {done.release.id}"):
        rollback("r-none", target=project.target)


def test_rollback_to_deleted_bytes_is_refused_before_anything_changes(project: LocalProject) -> None:
    project.deploy("red")
    first = publisher.active_pointer(project.target.share)
    project.deploy("blue")
    assert first
    gone = publisher.read_release(project.target.share, first.release).adapters[0].path
    shutil.rmtree(project.target.mount / gone)
    with pytest.raises(InvalidSettings, match=r"tone .* no longer on the share"):
        rollback(target=project.target)
    assert project.says() == "blue"


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
    project: LocalProject, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    first = project.deploy("red")
    with monkeypatch.context() as patch:
        refuse_to_activate(patch, first.release.id, problem)
        with pytest.raises(DeployFailed, match=f"{first.release.id} serves again") as caught:
            project.deploy("blue")
    assert type(problem).__name__ in caught.value.message
    assert caught.value.__cause__ is problem
    active = publisher.active_pointer(project.target.share)
    assert active
    assert active.release == first.release.id
    assert project.says() == "red"


def test_failure_is_told_with_its_first_cause_where_putting_back_fails_too(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deploy("red")
    refuse_to_activate(monkeypatch, None, FULL)
    monkeypatch.setattr(LocalTarget, "logs", cut_off)
    with pytest.raises(DeployFailed, match=r"failed too: OSError(.|\n)*the log cannot be read") as caught:
        project.deploy("blue")
    assert caught.value.__cause__ is FULL


@pytest.mark.parametrize("on_load", ["refuse", "die"])
def test_adapter_that_does_not_load_leaves_the_old_one_serving(project: LocalProject, on_load: str) -> None:
    first = project.deploy("red")
    bad = project.adapter("bad", on_load=on_load)
    with pytest.raises(DeployFailed, match=f"Release {first.release.id} serves again") as caught:
        deploy(project.settings(bad), target=project.target)
    assert ("missing keys" if on_load == "refuse" else "the engine ended") in str(caught.value)
    assert "Last log lines" in str(caught.value)
    assert project.says() == "red"
    active = publisher.active_pointer(project.target.share)
    assert active
    assert active.release == first.release.id
    assert project.target.status().state == "ready"
    assert project.deploy("red").proof


def test_restart_that_fails_puts_the_old_release_back(project: LocalProject) -> None:
    red = project.adapter("red")
    first = deploy(project.settings(red), target=project.target)
    bad = project.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=f"missing keys(.|\n)*{first.release.id} serves again"):
        deploy(project.settings(bad, max_concurrency=4), target=project.target)
    assert project.says() == "red"
    assert deploy(project.settings(red), target=project.target).how == "unchanged"


def test_adapter_that_is_not_what_its_report_says_is_not_served(project: LocalProject) -> None:
    project.deploy("red")
    with pytest.raises(DeployFailed, match="not what answers"):
        deploy(project.settings(project.adapter("blue", proven_as="green")), target=project.target)
    assert project.says() == "red"


def test_first_deploy_that_fails_leaves_nothing_running(project: LocalProject) -> None:
    bad = project.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=r"missing keys(.|\n)*nothing runs now"):
        deploy(project.settings(bad), target=project.target)
    assert processes_of(project.target) == []
    project.deploy("red")
    assert project.says() == "red"


def test_failed_deploy_after_a_stop_does_not_stay_the_one_to_start(project: LocalProject) -> None:
    first = project.deploy("red")
    project.target.stop()
    with pytest.raises(DeployFailed, match="nothing runs now"):
        deploy(project.settings(project.adapter("bad", on_load="refuse")), target=project.target)
    active = publisher.active_pointer(project.target.share)
    assert active
    assert active.release == first.release.id


def test_release_that_served_before_is_left_alone_where_its_proof_cannot_be_made(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project.settings(project.adapter("red"))
    deploy(settings, target=project.target)

    def busy(*_: object, **__: object) -> None:
        raise RequestRefused("the queue is full", next_step="wait", status=429, code="queue_full")

    with monkeypatch.context() as patch:
        patch.setattr(deployment_proof, "BUSY_ATTEMPTS", 2)
        patch.setattr(Endpoint, "prove", busy)
        with pytest.raises(DeployFailed, match=r"queue is full(.|\n)*left unchanged"):
            deploy(settings, target=project.target)
    assert project.says() == "red"


def test_server_that_cannot_start_shows_its_log(project: LocalProject) -> None:
    project.target = LocalTarget(project.workspace, keep=False, env={"NBTOOLKIT_POLL": "never"})
    with pytest.raises(DeployFailed, match=r"exit code 2(.|\n)*NBTOOLKIT_POLL='never'"):
        project.deploy("red")
    assert processes_of(project.target) == []


def test_bad_adapter_stops_before_anything_is_touched(project: LocalProject) -> None:
    with pytest.raises(InvalidAdapter, match="A1"):
        deploy(project.settings(project.workspace.root / "nowhere"), target=project.target)
    assert processes_of(project.target) == []


def test_cancel_before_publishing_leaves_the_old_one(project: LocalProject) -> None:
    first = project.deploy("red").release.id
    with pytest.raises(Cancelled, match=f"Nothing was published; the server still serves {first}"):
        deploy(
            project.settings(project.adapter("blue")), target=project.target, progress=cancel_at("Sending")
        )
    assert project.says() == "red"


def test_cancel_after_publishing_says_what_still_runs(project: LocalProject) -> None:
    project.deploy("red")
    with pytest.raises(Cancelled, match=r"was published by .*; the server will swap to it") as caught:
        deploy(
            project.settings(project.adapter("blue")), target=project.target, progress=cancel_at("Waiting")
        )
    assert "rollback()" in caught.value.next_step
    assert project.deploy("blue").proof
    assert project.says() == "blue"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  it failed", "{bad} was published by"),
        ("Waiting until the server serves {first}", "{first} was published again by"),
    ],
    ids=["before the old one is public again", "after it"],
)
def test_interrupt_during_restore_names_the_public_release(
    project: LocalProject, line: str, said: str
) -> None:
    first = project.deploy("red").release.id
    bad = project.adapter("bad", on_load="refuse")
    stop = raise_at(line.format(first=first), KeyboardInterrupt)
    with pytest.raises(Cancelled, match=r"missing keys(.|\n)*while the previous release") as caught:
        deploy(project.settings(bad), target=project.target, progress=stop)
    active = publisher.active_pointer(project.target.share)
    assert active
    assert vars(caught.value)["release"] == active.release
    assert said.format(first=first, bad=active.release) in caught.value.message
    assert (active.release == first) == ("first" in line)
    project.deploy("red")
    assert project.says() == "red"


def test_interrupt_just_after_the_pointer_was_written_does_not_deny_it(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publisher.publish_release

    def interrupted(*what: Any, **how: Any) -> None:
        real(*what, **how)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publisher, "publish_release", interrupted)
        with pytest.raises(Cancelled, match=r"Interrupted\. r-.* was published by .*; no server runs"):
            project.deploy("red")
    project.deploy("red")
    assert project.says() == "red"


def test_interrupt_of_a_deploy_whose_share_no_longer_answers_is_still_told_as_one(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        monkeypatch.setattr(publisher, "active_pointer", cut_off)
        raise KeyboardInterrupt

    with pytest.raises(Cancelled, match=r"Interrupted\. The active release cannot be read: FileNotFound"):
        deploy(
            project.settings(project.adapter("red")),
            target=project.target,
            progress=call_at("Sending", interrupt),
        )


def test_one_deploy_at_a_time_in_a_workspace(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"))
    with project.workspace.lock("deploy", target=project.target.name):
        outcome: list[BaseException] = []

        def other() -> None:
            try:
                deploy(settings, target=project.target)
            except Busy as error:
                outcome.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "'deploy'" in str(outcome[0])


def test_unchanged_large_adapter_is_not_read_again(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = project.adapter("red", size=2_000_000)
    time.sleep(2.1)  # its times must be settled before a hash is remembered
    settings = project.settings(red)
    deploy(settings, target=project.target)
    read: list[str] = []
    real = content_hash.file_sha256
    monkeypatch.setattr(content_hash, "file_sha256", lambda path: read.append(path.parent.name) or real(path))
    assert deploy(settings, target=project.target).how == "unchanged"
    assert "red" not in read
    assert read, "the server's code is hashed every time"
    monkeypatch.undo()
    known = json.loads((project.workspace.state / "adapter-hashes.json").read_text())
    stub_deploy.adapter(red, "crimson", size=2_000_000)
    with pytest.raises(SmokeTestFailed, match="no smoke report"):
        deploy(settings, target=project.target)
    assert list(known) == [str(red)]


def test_full_disk_does_not_fail_an_adapters_hash(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = Adapter.read(project.adapter("red"))
    with monkeypatch.context() as patch:

        def full(_: object) -> None:
            raise FULL

        patch.setattr(os, "fsync", full)
        use_cached_sha256(red, project.workspace, min_age=-60)
    assert sorted(path.name for path in project.workspace.state.iterdir()) == [".gitignore", "reports"]
    use_cached_sha256(red, project.workspace, min_age=-60)
    assert json.loads((project.workspace.state / "adapter-hashes.json").read_text())[str(red.path)]["sha256"]


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
