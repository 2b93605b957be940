"""How an app is brought to a release, and the machine that it runs on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.container_apps.managed_app import is_managed
from nbtoolkit.azure.container_apps.models import EnvironmentState
from nbtoolkit.azure.container_apps.revisions import AppSnapshot, RevisionState
from nbtoolkit.azure.startup.activation import Activation, app_hardware
from nbtoolkit.progress import Progress
from nbtoolkit.serving.release import Release, ServedCode
from tests.support.app_states import app_state
from tests.support.replica_states import NOW, replica


def environment(**profiles: str) -> Any:
    named = [{"name": name, "workloadProfileType": kind} for name, kind in profiles.items()]
    found = EnvironmentState({"id": "/e", "name": "e", "properties": {"workloadProfiles": named}})
    return SimpleNamespace(environment=lambda _: found)


def test_hardware_of_an_app_follows_from_the_type_of_its_profile() -> None:
    gpu = environment(mine="Consumption-GPU-NC24-A100")
    assert app_hardware(gpu, app_state("mine")) == GPU_PROFILES["A100"]
    plain = app_hardware(environment(), app_state(None, memory="16Gi"))
    assert plain is not None
    assert (plain.has_gpu, plain.memory) == (False, 16)
    assert app_hardware(environment(mine="E16"), app_state("mine")) is None


def test_app_of_another_template_is_restarted_without_headroom_for_a_second_revision() -> None:
    running = replica(name="r-1", ready=True)
    revision = RevisionState("r", True, NOW, 1, "Provisioned", "Running")
    poller: Any = SimpleNamespace(snapshot=lambda **_: AppSnapshot((revision,), {"r": (running,)}))
    foreign = app_state()
    assert not is_managed(foreign)
    activation = Activation(SimpleNamespace(), poller, foreign)  # type: ignore[arg-type]
    assert activation.choose_method(restart=True, allow_downtime=False, progress=Progress()) == "restart"
    restarted: list[str] = []
    app: Any = SimpleNamespace(restart=lambda name, _: restarted.append(name))
    release = Release(base=None, code=ServedCode(kind="own", sha256="0" * 64))
    Activation(app, poller, foreign).run("restart", release, Progress(), lambda: None)
    assert restarted == ["r"]
