"""Deploys that fail, are cancelled or are interrupted: what is served and what the error reports."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from nbtoolkit import Endpoint, LocalTarget, deploy
from nbtoolkit.errors import (
    Cancelled,
    DeployFailed,
    InvalidAdapter,
    RequestRefused,
)
from nbtoolkit.releases import publisher
from nbtoolkit.serving.release import Release
from tests.support.processes import processes_of
from tests.support.recording_progress import call_at, cancel_at, raise_at
from tests.support.stub_deploy import LocalProject


def refuse_to_activate(patch: pytest.MonkeyPatch, release: str | None, problem: BaseException) -> None:
    """Make the target raise ``problem`` when it activates any release other than this one."""
    real = LocalTarget.activate

    def activate(self: LocalTarget, wanted: Release, **how: Any) -> None:
        if wanted.id != release:
            raise problem
        real(self, wanted, **how)

    patch.setattr(LocalTarget, "activate", activate)


def cut_off(*_: object, **__: object) -> None:
    """Raise as a folder that was deleted does."""
    raise FileNotFoundError("/nowhere")


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("problem", [FULL, KeyError("phase")], ids=["full disk", "odd answer"])
def test_any_error_after_publishing_restores_the_previous_release(
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


def test_a_failed_restore_does_not_hide_the_first_cause(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deploy("red")
    refuse_to_activate(monkeypatch, None, FULL)
    monkeypatch.setattr(LocalTarget, "logs", cut_off)
    with pytest.raises(DeployFailed, match=r"failed too: OSError(.|\n)*the log cannot be read") as caught:
        project.deploy("blue")
    assert caught.value.__cause__ is FULL


@pytest.mark.parametrize("on_load", ["refuse", "die"])
def test_an_adapter_that_does_not_load_leaves_the_previous_one(project: LocalProject, on_load: str) -> None:
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


def test_a_failed_restart_restores_the_previous_release(project: LocalProject) -> None:
    red = project.adapter("red")
    first = deploy(project.settings(red), target=project.target)
    bad = project.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=f"missing keys(.|\n)*{first.release.id} serves again"):
        deploy(project.settings(bad, max_concurrency=4), target=project.target)
    assert project.says() == "red"
    assert deploy(project.settings(red), target=project.target).how == "unchanged"


def test_an_adapter_that_does_not_match_its_report_is_not_served(project: LocalProject) -> None:
    project.deploy("red")
    with pytest.raises(DeployFailed, match="not what answers"):
        deploy(project.settings(project.adapter("blue", proven_as="green")), target=project.target)
    assert project.says() == "red"


def test_a_failed_first_deploy_leaves_nothing_running(project: LocalProject) -> None:
    bad = project.adapter("bad", on_load="refuse")
    with pytest.raises(DeployFailed, match=r"missing keys(.|\n)*nothing runs now"):
        deploy(project.settings(bad), target=project.target)
    assert processes_of(project.target) == []
    project.deploy("red")
    assert project.says() == "red"


def test_a_failed_deploy_after_a_stop_is_not_the_release_of_the_next_start(project: LocalProject) -> None:
    first = project.deploy("red")
    project.target.stop()
    with pytest.raises(DeployFailed, match="nothing runs now"):
        deploy(project.settings(project.adapter("bad", on_load="refuse")), target=project.target)
    active = publisher.active_pointer(project.target.share)
    assert active
    assert active.release == first.release.id


def test_a_served_release_is_left_unchanged_if_its_proof_fails(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project.settings(project.adapter("red"))
    deploy(settings, target=project.target)

    def busy(*_: object, **__: object) -> None:
        raise RequestRefused(
            "the queue is full", next_step="wait", status=429, code="queue_full", retry_after=0.01
        )

    with monkeypatch.context() as patch:
        patch.setattr(Endpoint, "prove", busy)
        with pytest.raises(DeployFailed, match=r"queue is full(.|\n)*left unchanged"):
            deploy(settings, target=project.target)
    assert project.says() == "red"


def test_server_that_cannot_start_shows_its_log(project: LocalProject) -> None:
    project.target = LocalTarget(project.workspace, keep=False, env={"NBTOOLKIT_POLL": "never"})
    with pytest.raises(DeployFailed, match=r"exit code 2(.|\n)*NBTOOLKIT_POLL='never'"):
        project.deploy("red")
    assert processes_of(project.target) == []


def test_an_invalid_adapter_fails_before_anything_changes(project: LocalProject) -> None:
    with pytest.raises(InvalidAdapter, match="A1"):
        deploy(project.settings(project.workspace.root / "nowhere"), target=project.target)
    assert processes_of(project.target) == []


def test_a_cancel_before_publishing_leaves_the_previous_release(project: LocalProject) -> None:
    first = project.deploy("red").release.id
    with pytest.raises(Cancelled, match=f"Nothing was published; the server still serves {first}"):
        project.deploy("blue", cancel_at("Sending"))
    assert project.says() == "red"


def test_a_cancel_after_publishing_reports_the_state(project: LocalProject) -> None:
    project.deploy("red")
    with pytest.raises(Cancelled, match=r"was published by .*; the server will swap to it") as caught:
        project.deploy("blue", cancel_at("Waiting"))
    assert "rollback()" in caught.value.next_step
    assert project.deploy("blue").proof
    assert project.says() == "blue"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  it failed", "{bad} was published by"),
        ("Waiting until the server serves {first}", "{first} was published again by"),
    ],
    ids=["before the old one is public again", "after it"],
)
def test_interrupt_during_restore_names_the_public_release(
    project: LocalProject, line: str, message: str
) -> None:
    first = project.deploy("red").release.id
    bad = project.adapter("bad", on_load="refuse")
    stop = raise_at(line.format(first=first), KeyboardInterrupt)
    with pytest.raises(Cancelled, match=r"missing keys(.|\n)*while the previous release") as caught:
        deploy(project.settings(bad), target=project.target, progress=stop)
    active = publisher.active_pointer(project.target.share)
    assert active
    assert vars(caught.value)["release"] == active.release
    assert message.format(first=first, bad=active.release) in caught.value.message
    assert (active.release == first) == ("first" in line)
    project.deploy("red")
    assert project.says() == "red"


def test_an_interrupt_after_the_pointer_was_written_reports_the_publication(
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


def test_an_interrupt_while_the_share_does_not_answer_is_reported_as_cancelled(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        monkeypatch.setattr(publisher, "active_pointer", cut_off)
        raise KeyboardInterrupt

    with pytest.raises(Cancelled, match=r"Interrupted\. The active release cannot be read: FileNotFound"):
        project.deploy("red", call_at("Sending", interrupt))
