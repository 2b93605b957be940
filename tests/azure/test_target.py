"""Deploys to Azure: real SDKs against the double, real servers with the stub engine as containers."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit import DeploySettings, Workspace, deploy, prove, rollback
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.startup.timeline import Timeline
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.deployment import Deployment, Proof
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import DeployFailed, InvalidSettings, NotInStore, QuotaShort
from nbtoolkit.models.base_model import Base
from nbtoolkit.serving.release import Release, ServedCode
from nbtoolkit.sync import SyncResult
from tests.support.azure_project import APP, MakeProject
from tests.support.model_folders import sized_base
from tests.support.recording_progress import RecordingProgress
from tests.support.replica_states import ManualClock, replica

A100_QUOTA = "SubscriptionConsumptionNCA100Gpus"


def test_hot_swap_after_a_first_deploy_changes_nothing_in_arm(make_project: MakeProject) -> None:
    project, progress = make_project(), RecordingProgress()
    first = project.deploy("brave", progress)
    assert (first.how, bool(first.proof), project.says()) == ("start", True, "brave")
    assert first.endpoint.url == project.names.endpoint
    assert "key           endpoint.key; kept in secret nbtoolkit-api-key of the app tones" in str(first)
    assert dict(first.rows())["start"].endswith("→ ready")
    assert first.endpoint.key.get_secret_value() not in "\n".join([str(first), repr(first), *progress.lines])
    replicas = project.target.replicas(refresh=True)

    project.forget_requests()
    second = project.deploy("calm")
    assert (second.how, bool(second.proof), project.says()) == ("hot swap", True, "calm")
    arm = [seen.path.rpartition("/")[2] for seen in project.double.requests if "management" in seen.host]
    assert arm == ["revisions", "replicas"]  # once at the end, to check all replicas
    assert project.target.replicas(refresh=True) == replicas

    project.forget_requests()
    assert project.deploy("calm").how == "unchanged"
    assert not project.arm_writes()


@pytest.mark.all
def test_hot_swap_reaches_every_replica(make_project: MakeProject) -> None:
    project = make_project(min_replicas=2, max_replicas=2)
    project.deploy("brave")
    assert len(project.target.replicas(refresh=True)) == 2
    assert project.deploy("calm").how == "hot swap"
    names = project.target.replicas(refresh=True)
    swapped = {project.target.heartbeat(name).adapters["tone"] for name in names}  # type: ignore[union-attr]
    assert len(swapped) == 1
    assert {project.says() for _ in range(6)} == {"calm"}
    proof = prove(project.target).raise_for_failure()
    assert proof.replicas == dict.fromkeys(names, "it answered, and all its adapters are proven")
    assert proof.cost.requests == 4


def test_status_does_not_wake_the_app_and_deploy_does(make_project: MakeProject) -> None:
    project, progress = make_project(), RecordingProgress()
    project.deploy("brave")
    project.double.apps.scale_to_zero(APP)
    project.double.apps.limits.hold = 0
    project.double.apps.limits.hold_seconds = (
        50  # the ingress times out after 0.5 s, and the request is repeated
    )
    before = project.double.apps.ingress_requests(APP)
    status = project.target.status()
    assert (status.state, status.release) == ("asleep", None)
    assert "a request wakes it" in status.summary
    assert list(project.target.logs(tail=5)) != []
    assert project.double.apps.ingress_requests(APP) == before

    project.forget_requests()
    woken = project.deploy("calm", progress)
    assert (woken.how, project.says()) == ("start", "calm")
    assert project.arm_writes() == []
    assert project.target.timeline is not None
    assert str(project.target.timeline).endswith("ready")


@pytest.mark.all
def test_restart_is_a_new_revision_if_the_quota_has_a_second_gpu(make_project: MakeProject) -> None:
    project, progress = make_project(gpu=True), RecordingProgress()
    project.deploy("brave")
    project.forget_requests()
    changed = project.deploy("brave", progress, max_concurrency=4)
    assert (changed.how, project.says()) == ("restart", "brave")
    assert [line.split()[0] for line in project.arm_writes()] == ["PATCH"]
    assert "1 of 2 in use, 1 free, needed 1" in progress
    latest = project.target.app.revisions()[0]
    assert latest.name.startswith(f"{APP}--{changed.release.id}-")

    back = rollback(target=project.target)
    assert (back.how, back.release.engine.max_batch) == ("restart", 16)


def test_restart_without_a_second_gpu_is_refused_before_anything_is_published(
    make_project: MakeProject,
) -> None:
    project, progress = make_project(gpu=True), RecordingProgress()
    project.double.apps.quota.limits[A100_QUOTA] = 1
    first = project.deploy("brave")
    project.forget_requests()
    with pytest.raises(QuotaShort, match="1 of 1 in use, 0 free, needed 1") as short:
        project.deploy("brave", max_concurrency=4)
    assert "allow_downtime=True" in short.value.next_step
    assert project.arm_writes() == []
    assert (project.says(), project.target.status().release) == ("brave", first.release.id)

    done = project.deploy("brave", progress, max_concurrency=4, allow_downtime=True)
    assert (done.how, project.says()) == ("restart", "brave")
    assert "Stopping the app; nothing answers until the new server is ready" in progress
    assert [line.rpartition("/")[2] for line in project.arm_writes()] == ["stop", "start"]
    with pytest.raises(QuotaShort):
        rollback(target=project.target)
    assert rollback(target=project.target, allow_downtime=True).release.id == first.release.id


def test_crash_loop_is_rolled_back_while_the_old_server_keeps_serving(make_project: MakeProject) -> None:
    project = make_project(gpu=True)
    first = project.deploy("brave")
    project.double.apps.crash(APP)
    with pytest.raises(DeployFailed, match=r"ended \d+ times in a row") as failed:
        project.deploy("calm", max_concurrency=4)
    assert f"Release {first.release.id} serves again." in str(failed.value)
    assert "made to crash" in str(failed.value)
    assert project.says() == "brave"
    status = project.target.status()
    assert (status.state, status.release) == ("degraded", first.release.id)

    project.double.apps.crash(APP, 0)
    assert project.deploy("calm", max_concurrency=4).how == "restart"
    assert project.says() == "calm"


@pytest.mark.all
def test_crash_loop_after_downtime_is_rolled_back(make_project: MakeProject) -> None:
    project = make_project(gpu=True)
    project.double.apps.quota.limits[A100_QUOTA] = 1
    first = project.deploy("brave")
    project.double.apps.crash(APP, 5)
    with pytest.raises(DeployFailed, match=f"Release {first.release.id} serves again"):
        project.deploy("calm", max_concurrency=4, allow_downtime=True)
    assert project.says() == "brave"


@pytest.mark.all
def test_ten_minutes_without_a_replica_are_reported_as_missing_capacity(make_project: MakeProject) -> None:
    project, progress = make_project(gpu=True), RecordingProgress()
    project.deploy("brave")
    project.target.stop()
    assert project.target.status().state == "stopped"
    project.double.apps.hold(APP)
    with pytest.raises(DeployFailed, match="has no capacity for one in this region now") as failed:
        project.deploy("calm", progress)
    assert "A100, 80 GB, serverless" in str(failed.value)
    assert "AssigningReplica (Azure searches for a free machine)" in progress
    assert project.target.status().state in ("stopped", "asleep")


@pytest.mark.all
def test_refused_adapter_is_rolled_back_without_a_change_of_the_app(make_project: MakeProject) -> None:
    project = make_project()
    project.deploy("brave")
    project.forget_requests()
    settings = project.settings(project.adapter("evil", on_load="refuse"))
    with pytest.raises(DeployFailed, match="the engine refused the adapter"):
        deploy(settings, target=project.target)
    assert (project.says(), project.arm_writes()) == ("brave", [])


@pytest.mark.all
def test_failed_deploy_leaves_a_sleeping_app_asleep_with_the_old_release(make_project: MakeProject) -> None:
    project = make_project()
    first = project.deploy("brave")
    project.double.apps.scale_to_zero(APP)
    project.double.apps.crash(APP)
    with pytest.raises(DeployFailed, match=f"the next request starts {first.release.id}"):
        project.deploy("calm")
    assert project.target.status().state == "asleep"
    project.double.apps.crash(APP, 0)
    project.target.endpoint().wait(30)
    assert project.says() == "brave"


def test_models_on_the_share_are_served_in_place(make_project: MakeProject) -> None:
    project = make_project()
    shutil.copytree(project.adapter("calm"), project.share / "models" / "phi" / "adapter")
    shutil.copytree(project.base, project.share / "model-cache" / "tiny")
    shutil.rmtree(project.workspace.root / "adapters")
    with pytest.raises(NotInStore, match="The share has: /mount/models/phi/adapter"):
        deploy(project.settings("/mount/models/phi/other"), target=project.target)
    settings = project.settings("/mount/models/phi/adapter", base="/mount/model-cache/tiny")
    done = deploy(settings, target=project.target)
    assert (done.release.adapters[0].path, project.says()) == ("models/phi/adapter", "calm")
    assert done.release.base is not None
    assert done.release.base.path == "model-cache/tiny"
    assert not (project.share / "nbtoolkit" / "adapters").exists()
    assert not (project.share / "nbtoolkit" / "bases").exists()


@pytest.mark.all
def test_destroy_keeps_the_models_of_fine_tuning(make_project: MakeProject) -> None:
    project = make_project()
    project.deploy("brave")
    (project.share / "models").mkdir()
    project.target.destroy()
    assert [path.name for path in project.share.iterdir()] == ["models"]
    assert project.target.status().state == "stopped"


@pytest.fixture
def target(tmp_path: Path) -> AzureTarget:
    """A target that sends no request."""
    (tmp_path / "infra").mkdir()
    return AzureTarget(Workspace(tmp_path), SimpleNamespace())  # type: ignore[arg-type]


def memory_notes(
    target: AzureTarget,
    base: Base,
    hardware: GpuProfile | None,
    monkeypatch: pytest.MonkeyPatch,
    **values: Any,
) -> list[str]:
    monkeypatch.setattr(AzureTarget, "machine", lambda _: hardware)
    progress = RecordingProgress()
    settings = DeploySettings(adapters={"a": Path("a")}, base="/mount/model-cache/big", **values)
    override = settings.override_reason is not None
    target.check_memory(base, settings.quantization, override=override, progress=progress)
    return progress.lines


def test_base_model_that_does_not_fit_is_refused(
    target: AzureTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = sized_base(tmp_path / "big", 4096, 40)  # 8.2 billion weights
    with pytest.raises(InvalidSettings, match=r"big \(none\) needs .* GPU memory") as refused:
        memory_notes(target, big, GPU_PROFILES["T4"], monkeypatch)
    assert "nf4" in refused.value.next_step
    assert memory_notes(target, big, GPU_PROFILES["A100"], monkeypatch) == []
    assert memory_notes(target, big, None, monkeypatch) == []
    notes = memory_notes(target, big, GPU_PROFILES["T4"], monkeypatch, override_reason="I measured it")
    assert any("run out of memory" in line for line in notes)


def test_deployment_shows_the_phases_of_its_start(target: AzureTarget) -> None:
    clock = ManualClock()
    timeline = Timeline(clock=clock)
    for seconds, details in ((0, "AssigningReplica"), (5, ""), (30, "")):
        clock.now += seconds
        timeline.update([replica("Waiting", details, name="r-1")], {})
    monitor: Any = SimpleNamespace(timeline=timeline)
    assert target.startup_phases() == ""
    target._monitor = monitor  # pyright: ignore[reportPrivateUsage]
    assert target.startup_phases() == "AssigningReplica 5 s → PullingImage 30 s"

    release = Release(base=None, code=ServedCode(kind="own", sha256="0" * 64))
    shown = Deployment(
        release,
        Endpoint("https://x", ""),
        Proof(),
        target,
        SyncResult(),
        40.0,
        "start",
        phases=target.startup_phases(),
    )
    rows = dict(shown.rows())
    assert rows["start"] == "AssigningReplica 5 s → PullingImage 30 s"
    assert "key" not in rows  # a custom server has no API key of nbtoolkit
