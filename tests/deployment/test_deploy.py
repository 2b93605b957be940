"""Deploys to this machine with a stub engine and no other stub."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from nbtoolkit import Adapter, DeploySettings, LocalTarget, deploy, rollback
from nbtoolkit.deployment.resolve_release import resolve_release, use_cached_sha256
from nbtoolkit.errors import (
    Busy,
    InvalidSettings,
    SmokeTestFailed,
)
from nbtoolkit.golden.golden_file import add_golden
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving import content_hash
from tests.support import stub_deploy
from tests.support.processes import processes_of
from tests.support.recording_progress import RecordingProgress
from tests.support.stub_deploy import LocalProject


def starts(project: LocalProject) -> int:
    beat = project.target.heartbeat()
    assert beat
    return beat.engine_starts


def test_deploy_serves_the_adapter_and_proves_it(project: LocalProject) -> None:
    done = project.deploy("red")
    assert project.says() == "red"
    assert done.proof
    assert done.proof.verdicts["tone"].adapter.matched == 16
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


def test_a_repeated_deploy_sends_and_publishes_nothing_and_repeats_the_proof(project: LocalProject) -> None:
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


def test_a_deploy_without_a_smoke_report_names_the_call_to_run(project: LocalProject) -> None:
    untested = project.adapter("red", proven=False)
    with pytest.raises(SmokeTestFailed, match=r"no smoke report for sha256 .* on tiny") as caught:
        deploy(project.settings(untested), target=project.target)
    assert "smoke_test" in caught.value.next_step
    assert publisher.active_pointer(project.target.share) is None
    assert processes_of(project.target) == []


def test_a_smoke_report_of_other_bytes_is_refused(project: LocalProject) -> None:
    red = project.adapter("red")
    stub_deploy.adapter(red, "crimson")  # trained further after the smoke test
    with pytest.raises(SmokeTestFailed, match="no smoke report"):
        deploy(project.settings(red), target=project.target)


def test_golden_prompts_changed_after_the_smoke_test_are_noted(project: LocalProject) -> None:
    red = project.adapter("red")
    add_golden(red, {"prompt": "hi", "must": {"contains": "red"}})
    progress = RecordingProgress()
    deploy(project.settings(red), target=project.target, progress=progress)
    (note,) = [line for line in progress.lines if "did not ask the golden prompts" in line]
    assert f"{red / 'golden.jsonl'} now; to ask them, run smoke_test(SmokeSettings(" in note


def test_a_failed_smoke_report_names_the_check(project: LocalProject) -> None:
    red = project.adapter("red", proven=False)
    stub_deploy.report(project.workspace, red, project.base, "red", failed=True)
    with pytest.raises(SmokeTestFailed, match="A6 numbers: NaN in w"):
        deploy(project.settings(red), target=project.target)


def test_a_smoke_report_of_another_precision_is_refused(project: LocalProject) -> None:
    with pytest.raises(SmokeTestFailed, match=r"with dtype 'auto', but is to be served with 'float16'"):
        project.deploy("red", dtype="float16")


def damage(project: LocalProject, **changes: object) -> None:
    """Change fields of the newest smoke report to what another version or other settings would write."""
    path = max(project.workspace.reports.glob("*.json"))
    content = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps(content, sort_keys=True, indent=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 1}, "is not a smoke report of this version: format"),
        ({"engine": "vllm"}, "with engine 'vllm', but is to be served with 'transformers'"),
        ({"quantization": "nf4"}, "with quantization 'nf4', but is to be served with 'none'"),
        ({"settings": {}}, "with dtype None, but is to be served with 'auto'"),
        ({"levels": ["static", "model"]}, "level contract was not run"),
        ({"verdict": "undecided"}, "A1 is undecided"),
        ({"verdict": "skipped"}, "A1 was skipped: for a test"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_a_report_that_says_less_than_the_deploy_needs_does_not_count(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    project = LocalProject(tmp_path / "workspace")
    settings = project.settings(project.adapter("red"))
    if verdict := changes.pop("verdict", None):
        check = {
            "id": "A1",
            "level": "static",
            "title": "files",
            "evidence": {},
            "remedy": "",
            "recommended": {},
            "seconds": 0.0,
        }
        changes = {"checks": [{**check, "verdict": verdict, "summary": "skipped: for a test"}]}
    damage(project, **changes)
    with pytest.raises(SmokeTestFailed) as caught:
        resolve_release(settings, project.target, Progress())
    assert reason in caught.value.message
    folder = project.workspace.root / "adapters" / "red"
    line = f"smoke_test(SmokeSettings(adapter={str(folder)!r}, base='tiny')).raise_for_failure()"
    assert caught.value.next_step == f"run {line}, or give override_reason"
    settings = settings.model_copy(update={"override_reason": "a reason"})
    assert resolve_release(settings, project.target, Progress()).release.override_reason == "a reason"


def test_an_override_reason_allows_the_deploy_and_is_kept_in_the_release(project: LocalProject) -> None:
    untested = project.adapter("red", proven=False)
    done = deploy(project.settings(untested, override_reason="a demo"), target=project.target)
    assert done.release.override_reason == "a demo"
    stored = publisher.read_release(project.target.share, done.release.id)
    assert stored.override_reason == "a demo"
    assert not done.proof
    assert "without a smoke report" in str(done.proof)
    assert "a demo" in str(done)
    assert project.says() == "red"


def test_a_fingerprint_of_other_settings_is_not_used_with_an_override(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"), dtype="float16", override_reason="a demo")
    done = deploy(settings, target=project.target)
    assert done.release.reports == {}
    assert "not proven" in str(done.proof)


def test_an_unneeded_override_reason_is_not_kept(project: LocalProject) -> None:
    settings = project.settings(project.adapter("red"), override_reason="to be sure")
    done = deploy(settings, target=project.target)
    assert done.release.override_reason is None


def test_two_rollbacks_restore_the_second_last_release(project: LocalProject) -> None:
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


def test_rollback_to_deleted_files_is_refused_before_anything_changes(project: LocalProject) -> None:
    project.deploy("red")
    first = publisher.active_pointer(project.target.share)
    project.deploy("blue")
    assert first
    gone = publisher.read_release(project.target.share, first.release).adapters[0].path
    shutil.rmtree(project.target.mount / gone)
    with pytest.raises(InvalidSettings, match=r"tone .* no longer on the share"):
        rollback(target=project.target)
    assert project.says() == "blue"


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


def test_the_hash_of_an_unchanged_adapter_is_cached(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = project.adapter("red", size=2_000_000)
    time.sleep(2.1)  # the hash of a file younger than two seconds is not cached
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


def test_a_full_disk_does_not_fail_the_hash_cache(
    project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    red = Adapter.read(project.adapter("red"))
    with monkeypatch.context() as patch:

        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

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


def test_settings_return_the_required_smoke_tests() -> None:
    settings = DeploySettings(adapters={"x": "a", "y": "b"}, base="tiny", dtype="float32")
    asked = [(str(one.adapter), one.base, one.dtype) for one in settings.smoke_settings()]
    assert asked == [("a", "tiny", "float32"), ("b", "tiny", "float32")]
