"""A provision or a deploy killed at any moment: nothing is half there, and the next run finishes it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit.progress import Progress
from tests.fault_matrix.fast import fast_azure
from tests.fault_matrix.places import Deploying, Serving
from tests.fault_matrix.provision_steps import Provisioning
from tests.fault_matrix.share_checks import pointers, torn
from tests.fault_matrix.steps import close_clouds

REPO = Path(__file__).parents[2]
SEED = 20_261_122
ROUNDS = pytest.mark.parametrize(
    "rounds", [1, pytest.param(15, marks=pytest.mark.all)], ids=["sample", "all"]
)
BEGIN = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(REPO)!r})
import pytest
from tests.support import stub_deploy as deploy_double
from nbtoolkit import *
from tests.fault_matrix.fast import hurry
hurry(pytest.MonkeyPatch())
deploy_double.use_stub(Path(sys.argv[1]))
workspace, settings = Workspace(Path(sys.argv[2])), sys.argv[3]
"""
PROVISION = f"""{BEGIN}
settings = ProvisionSettings.model_validate_json(settings)
print("go", flush=True)
provision(settings, apply=True, workspace=workspace)
print("done", flush=True)
"""
DEPLOY = f"""{BEGIN}
settings = DeploySettings.model_validate_json(settings)
target = AzureTarget(workspace, poll=0.1)
print("go", flush=True)
deploy(settings, target=target)
print("done", flush=True)
"""


class Killer:
    """Run a step in a process of its own and kill it at a moment that chance chooses."""

    def __init__(self, code: Path) -> None:
        self.cut_short = 0
        self._code = code
        self._chance = random.Random(SEED)

    def kill(self, program: str, workspace: Path, settings: str, longest: float) -> None:
        command = [sys.executable, "-c", program, str(self._code), str(workspace), settings]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            assert child.stdout.readline() == "go\n"
            time.sleep(self._chance.uniform(0, longest))
            child.send_signal(signal.SIGKILL)
            self.cut_short += child.stdout.read() == ""


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[tuple[Serving, Killer]]:
    with fast_azure(tmp_path) as double:
        yield Serving(double, tmp_path), Killer(tmp_path / "serving")
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


def _timed(run: object) -> float:
    begin = time.monotonic()
    run(Progress())  # type: ignore[operator]
    return time.monotonic() - begin


@ROUNDS
def test_killed_provision_is_finished_by_the_next_one_and_started_once(
    azure: tuple[Serving, Killer], tmp_path: Path, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    serving, killer = azure
    step = Provisioning(serving.double, tmp_path)
    step.prepare()
    takes = _timed(step.run)
    for _ in range(rounds):
        step.prepare()
        killer.kill(PROVISION, step.workspace.root, step.settings.model_dump_json(), takes)
        assert not serving.double.apps.double.crashes
        step.run(Progress())
        assert step.finished() == []
    with capsys.disabled():
        print(f"\n{killer.cut_short} of {rounds} provisions were cut short")
    assert killer.cut_short >= rounds / 2


@ROUNDS
@pytest.mark.parametrize("name", ["start", "swap", "restart"])
def test_killed_deploy_leaves_what_serves_and_is_finished_by_the_next_one(
    azure: tuple[Serving, Killer], name: str, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    serving, killer = azure
    step = Deploying(serving, name)
    step.prepare()
    takes = _timed(step.run)
    for _ in range(rounds):
        step.prepare()
        with step.watched():
            killer.kill(DEPLOY, serving.workspace.root, serving.settings.model_dump_json(), takes)
            assert torn(serving.share) == []
            step.run(Progress())
        assert step.left(None) == []
        assert step.finished() == []
        numbers = [pointer.n for pointer in pointers(serving.share)]
        assert numbers == sorted(set(numbers))
    with capsys.disabled():
        print(f"\n{killer.cut_short} of {rounds} deploys ({name}) were cut short")
    assert killer.cut_short >= rounds / 2
