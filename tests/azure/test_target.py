"""Deploys to Azure: real SDKs against the double, real servers with the stub engine as containers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import deploy, rollback
from nbtoolkit.azure import sdk
from nbtoolkit.deployment import Deployment
from nbtoolkit.errors import DeployFailed, NotInStore, QuotaShort
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.support.azure_workspace import APP, AzurePlace
from tests.support.recording_progress import Told
from tests.support.stub_deploy import server_code, use_stub

A100_QUOTA = "SubscriptionConsumptionNCA100Gpus"
Make = Callable[..., AzurePlace]


@pytest.fixture(scope="module", autouse=True)
def _stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    patch = use_stub(server_code(tmp_path_factory.mktemp("code")))
    yield
    patch.undo()


@pytest.fixture
def make(azure_double: AzureDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.2)
    return lambda **how: AzurePlace(azure_double, tmp_path / "project", **how)


def sent(place: AzurePlace, says: str, progress: Progress | None = None, **more: Any) -> Deployment:
    return deploy(place.settings(place.adapter(says), **more), target=place.target, progress=progress)


def test_first_deploy_then_a_hot_swap_that_asks_arm_for_no_change(make: Make) -> None:
    place, told = make(), Told()
    first = sent(place, "brave", told)
    assert (first.how, bool(first.proof), place.says()) == ("start", True, "brave")
    assert first.endpoint.url == place.place.endpoint
    assert "key           endpoint.key; kept in secret nbtoolkit-api-key of the app tones" in str(first)
    assert dict(first.rows())["start"].endswith("→ ready")
    assert first.endpoint.key.get_secret_value() not in "\n".join([str(first), repr(first), *told.lines])
    replicas = place.target.replicas(refresh=True)

    place.forget_requests()
    second = sent(place, "calm")
    assert (second.how, bool(second.proof), place.says()) == ("hot swap", True, "calm")
    arm = [seen.path.rpartition("/")[2] for seen in place.double.requests if "management" in seen.host]
    assert arm == ["revisions", "replicas"]  # once at the end, to be sure that nobody was forgotten
    assert place.target.replicas(refresh=True) == replicas

    place.forget_requests()
    assert sent(place, "calm").how == "unchanged"
    assert not place.arm_writes()


@pytest.mark.all
def test_every_replica_swaps_and_is_asked_for_its_word(make: Make) -> None:
    place = make(least=2, most=2)
    sent(place, "brave")
    assert len(place.target.replicas(refresh=True)) == 2
    assert sent(place, "calm").how == "hot swap"
    said = {place.target.heartbeat(name).adapters["tone"] for name in place.target.replicas(refresh=True)}  # type: ignore[union-attr]
    assert len(said) == 1
    assert {place.says() for _ in range(6)} == {"calm"}


def test_a_status_wakes_nothing_and_a_deploy_wakes_what_sleeps(make: Make) -> None:
    place, told = make(), Told()
    sent(place, "brave")
    place.double.apps.scale_to_zero(APP)
    place.double.apps.limits.hold_seconds = 5  # the ingress gives up, and is asked again
    before = place.double.apps.ingress_requests(APP)
    status = place.target.status()
    assert (status.state, status.release) == ("asleep", None)
    assert "a request wakes it" in status.summary
    assert list(place.target.logs(tail=5)) != []
    assert place.double.apps.ingress_requests(APP) == before

    place.forget_requests()
    woken = sent(place, "calm", told)
    assert (woken.how, place.says()) == ("start", "calm")
    assert place.arm_writes() == []
    assert place.target.timeline is not None
    assert str(place.target.timeline).endswith("ready")


@pytest.mark.all
def test_a_restart_takes_a_new_revision_where_there_is_a_gpu_for_both(make: Make) -> None:
    place, told = make(gpu=True), Told()
    sent(place, "brave")
    place.forget_requests()
    changed = sent(place, "brave", told, max_concurrency=4)
    assert (changed.how, place.says()) == ("restart", "brave")
    assert [line.split()[0] for line in place.arm_writes()] == ["PATCH"]
    assert "1 of 2 in use, 1 free, needed 1" in told
    latest = place.target.app.revisions()[0]
    assert latest.name.startswith(f"{APP}--{changed.release.id}-")

    back = rollback(target=place.target)
    assert (back.how, back.release.engine.max_batch) == ("restart", 16)


def test_without_a_second_gpu_it_asks_for_downtime_before_anything_is_published(make: Make) -> None:
    place, told = make(gpu=True), Told()
    place.double.apps.quota.limits[A100_QUOTA] = 1
    first = sent(place, "brave")
    place.forget_requests()
    with pytest.raises(QuotaShort, match="1 of 1 in use, 0 free, needed 1") as short:
        sent(place, "brave", max_concurrency=4)
    assert "allow_downtime=True" in short.value.next_step
    assert place.arm_writes() == []
    assert (place.says(), place.target.status().release) == ("brave", first.release.id)

    done = sent(place, "brave", told, max_concurrency=4, allow_downtime=True)
    assert (done.how, place.says()) == ("restart", "brave")
    assert "Stopping the app; nothing answers until the new server is ready" in told
    assert [line.rpartition("/")[2] for line in place.arm_writes()] == ["stop", "start"]
    with pytest.raises(QuotaShort):
        rollback(target=place.target)
    assert rollback(target=place.target, allow_downtime=True).release.id == first.release.id


def test_a_crash_loop_is_taken_back_and_the_old_server_never_went_away(make: Make) -> None:
    place = make(gpu=True)
    first = sent(place, "brave")
    place.double.apps.crash(APP)
    with pytest.raises(DeployFailed, match=r"ended \d+ times in a row") as failed:
        sent(place, "calm", max_concurrency=4)
    assert f"Release {first.release.id} serves again." in str(failed.value)
    assert "made to crash" in str(failed.value)
    assert place.says() == "brave"
    status = place.target.status()
    assert (status.state, status.release) == ("degraded", first.release.id)

    place.double.apps.crash(APP, 0)
    assert sent(place, "calm", max_concurrency=4).how == "restart"
    assert place.says() == "calm"


@pytest.mark.all
def test_a_crash_loop_after_downtime_brings_the_old_release_back(make: Make) -> None:
    place = make(gpu=True)
    place.double.apps.quota.limits[A100_QUOTA] = 1
    first = sent(place, "brave")
    place.double.apps.crash(APP, 5)
    with pytest.raises(DeployFailed, match=f"Release {first.release.id} serves again"):
        sent(place, "calm", max_concurrency=4, allow_downtime=True)
    assert place.says() == "brave"


@pytest.mark.all
def test_no_machine_for_ten_minutes_is_named_as_lack_of_capacity(make: Make) -> None:
    place, told = make(gpu=True), Told()
    sent(place, "brave")
    place.target.stop()
    assert place.target.status().state == "stopped"
    place.double.apps.hold(APP)
    with pytest.raises(DeployFailed, match="has no capacity for one in this region now") as failed:
        sent(place, "calm", told)
    assert "A100, 80 GB, serverless" in str(failed.value)
    assert "AssigningReplica (Azure looks for a free machine)" in told
    assert place.target.status().state in ("stopped", "asleep")


@pytest.mark.all
def test_a_refused_adapter_is_put_back_without_a_change_of_the_app(make: Make) -> None:
    place = make()
    sent(place, "brave")
    place.forget_requests()
    settings = place.settings(place.adapter("evil", on_load="refuse"))
    with pytest.raises(DeployFailed, match="the engine refused the adapter"):
        deploy(settings, target=place.target)
    assert (place.says(), place.arm_writes()) == ("brave", [])


@pytest.mark.all
def test_a_failed_deploy_onto_a_sleeping_app_leaves_it_asleep_with_the_old_release(make: Make) -> None:
    place = make()
    first = sent(place, "brave")
    place.double.apps.scale_to_zero(APP)
    place.double.apps.crash(APP)
    with pytest.raises(DeployFailed, match=f"the next request starts {first.release.id}"):
        sent(place, "calm")
    assert place.target.status().state == "asleep"
    place.double.apps.crash(APP, 0)
    place.target.endpoint().wait(30)
    assert place.says() == "brave"


def test_what_lies_only_on_the_share_is_served_in_place(make: Make) -> None:
    place = make()
    shutil.copytree(place.adapter("calm"), place.share / "models" / "phi" / "adapter")
    shutil.copytree(place.base, place.share / "model-cache" / "tiny")
    shutil.rmtree(place.workspace.root / "adapters")
    with pytest.raises(NotInStore, match="There are: /mount/models/phi/adapter"):
        deploy(place.settings("/mount/models/phi/other"), target=place.target)
    settings = place.settings("/mount/models/phi/adapter", base="/mount/model-cache/tiny")
    done = deploy(settings, target=place.target)
    assert (done.release.adapters[0].path, place.says()) == ("models/phi/adapter", "calm")
    assert done.release.base is not None
    assert done.release.base.path == "model-cache/tiny"
    assert not (place.share / "nbtoolkit" / "adapters").exists()
    assert not (place.share / "nbtoolkit" / "bases").exists()


@pytest.mark.all
def test_destroy_leaves_what_fine_tuning_left(make: Make) -> None:
    place = make()
    sent(place, "brave")
    (place.share / "models").mkdir()
    place.target.destroy()
    assert [path.name for path in place.share.iterdir()] == ["models"]
    assert place.target.status().state == "stopped"
