"""What a deploy sees to before it sends anything: whose app it is, with which engine, on which machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit import DeploySettings, Workspace
from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.azure.container_apps.managed_app import check_ours, is_ours
from nbtoolkit.azure.container_apps.models import (
    AppState,
    ContainerState,
    EnvironmentState,
    ReplicaState,
    RevisionState,
)
from nbtoolkit.azure.container_apps.replica_poller import AppSnapshot
from nbtoolkit.azure.startup.activation import Activation, machine_of
from nbtoolkit.azure.startup.timeline import Timeline
from nbtoolkit.azure.target import AzureTarget
from nbtoolkit.container_runtime.images import TRANSFORMERS
from nbtoolkit.container_runtime.share_wheels import SharedWheels, resolve_wheels
from nbtoolkit.deployment import Deployment, Proof
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import ProvisionSettings
from nbtoolkit.provisioning.validation import blockers
from nbtoolkit.serving.release import Release, ServedCode
from nbtoolkit.sync import SyncResult
from tests.provisioning.test_preflight import sized

NOW = datetime.now(UTC)
OURS = {"NBTOOLKIT_MOUNT": "/mount"}


def app(profile: str | None = None, memory: str = "8Gi", **variables: str) -> AppState:
    env = [{"name": name, "value": value} for name, value in variables.items()]
    container = {"env": env, "resources": {"memory": memory}}
    template = {"containers": [container]}
    rest = {"environmentId": "/e", "workloadProfileName": profile, "template": template}
    return AppState.of({"id": "/tones", "name": "tones", "properties": rest})


# The engine


def test_an_app_that_was_made_for_vllm_is_no_place_for_our_server() -> None:
    check_ours(app(**OURS, NBTOOLKIT_ENGINE="transformers"))
    check_ours(app(**OURS))
    with pytest.raises(InvalidSettings, match="runs the transformers engine only") as refused:
        check_ours(app(**OURS, NBTOOLKIT_ENGINE="vllm"))
    assert "engine='transformers'" in refused.value.next_step


def test_the_wheels_are_those_of_the_engine_that_serves_whatever_the_parameter_file_says(
    tmp_path: Path,
) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "inference.parameters.json").write_text(
        '{"parameters":{"engine":{"value":"vllm"}}}'
    )
    found = resolve_wheels(None, Workspace(tmp_path))
    assert isinstance(found, SharedWheels)
    assert found.runtime == TRANSFORMERS
    assert resolve_wheels("none", Workspace(tmp_path)) is None


def test_vllm_is_provisioned_for_a_server_of_ones_own_only() -> None:
    place: dict[str, Any] = {"subscription": "00000000-0000-0000-0000-000000000000", "resource_group": "rg"}
    said = blockers(ProvisionSettings(**place, engine="vllm"))
    assert len(said) == 1
    assert "transformers engine only" in said[0]
    assert blockers(ProvisionSettings(**place, engine="vllm", commands=("python3 mine.py",))) == []


# The machine


def environment(**profiles: str) -> Any:
    named = [{"name": name, "workloadProfileType": kind} for name, kind in profiles.items()]
    found = EnvironmentState.of({"id": "/e", "name": "e", "properties": {"workloadProfiles": named}})
    return SimpleNamespace(environment=lambda _: found)


def test_the_machine_of_an_app_is_told_by_its_profiles_type() -> None:
    gpu = environment(mine="Consumption-GPU-NC24-A100")
    assert machine_of(gpu, app("mine")) == GPU_PROFILES["A100"]
    plain = machine_of(environment(), app(None, memory="16Gi"))
    assert plain is not None
    assert (plain.has_gpu, plain.memory) == (False, 16)
    assert machine_of(environment(mine="E16"), app("mine")) is None


@pytest.fixture
def target(tmp_path: Path) -> AzureTarget:
    (tmp_path / "infra").mkdir()
    return AzureTarget(Workspace(tmp_path), SimpleNamespace())  # type: ignore[arg-type]


class Told(Progress):
    """Keep what is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def show(self, text: str) -> None:
        self.lines.append(text)


def fits(
    target: AzureTarget,
    base: Base,
    hardware: GpuProfile | None,
    monkeypatch: pytest.MonkeyPatch,
    **values: Any,
) -> list[str]:
    monkeypatch.setattr(AzureTarget, "machine", lambda _: hardware)
    told = Told()
    settings = DeploySettings(adapters={"a": Path("a")}, base="/mount/model-cache/big", **values)
    override = settings.override_reason is not None
    target.check_memory(base, settings.quantization, override=override, progress=told)
    return told.lines


def test_a_base_model_that_does_not_fit_is_refused_before_anything_is_sent(
    target: AzureTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = sized(tmp_path / "big", 4096, 40)  # 8.2 billion weights
    with pytest.raises(InvalidSettings, match=r"big \(none\) needs .* GPU memory") as refused:
        fits(target, big, GPU_PROFILES["T4"], monkeypatch)
    assert "nf4" in refused.value.next_step
    assert fits(target, big, GPU_PROFILES["A100"], monkeypatch) == []
    assert fits(target, big, None, monkeypatch) == []
    told = fits(target, big, GPU_PROFILES["T4"], monkeypatch, override_reason="I measured it")
    assert any("run out of memory" in line for line in told)


# Apps of others


def test_a_servers_own_app_is_restarted_as_it_is_without_room_for_a_second_one() -> None:
    container = ContainerState("c", "Running", "", ready=True, started=True, restarts=0)
    running = ReplicaState("r-1", NOW, "Running", "", (container,))
    revision = RevisionState("r", True, NOW, 1, "Healthy", "Provisioned", "Running")
    watch: Any = SimpleNamespace(look=lambda **_: AppSnapshot((revision,), {"r": (running,)}))
    foreign = app()
    assert not is_ours(foreign)
    found = Activation(SimpleNamespace(), watch, foreign)  # type: ignore[arg-type]
    assert found.way(restart=True, allow_downtime=False, progress=Progress()) == "restart"
    restarted: list[str] = []
    fake: Any = SimpleNamespace(restart=lambda name, _: restarted.append(name))
    release = Release(base=None, code=ServedCode(kind="own", sha256="0" * 64))
    Activation(fake, watch, foreign).go("restart", release, Progress(), lambda: None)
    assert restarted == ["r"]


# What is printed


def test_a_deployment_shows_the_phases_of_its_start(target: AzureTarget) -> None:
    now = [0.0]
    timeline = Timeline(clock=lambda: now[0])
    waiting = ContainerState("c", "Waiting", "", ready=False, started=False, restarts=0)
    for seconds, details in ((0, "AssigningReplica"), (5, ""), (30, "")):
        now[0] += seconds
        timeline.see([ReplicaState("r-1", NOW, "NotRunning", details, (waiting,))], {})
    starting: Any = SimpleNamespace(timeline=timeline)
    assert target.startup_phases() == ""
    target._starting = starting  # pyright: ignore[reportPrivateUsage]
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
    assert "key" not in rows  # a server of one's own has none of ours
