"""A provision or a deploy killed at a random request leaves no half-written state; the next run completes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.azure_double.arm import HOST as ARM_HOST
from tests.fault_matrix.deploy_steps import DeployStep, ServedApp
from tests.fault_matrix.fast_azure import fast_azure
from tests.fault_matrix.provision_steps import ProvisionStep
from tests.fault_matrix.share_checks import pointers, share_problems
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
from tests.support import stub_deploy
from nbtoolkit import *
from tests.fault_matrix.fast_azure import short_timeouts
short_timeouts(pytest.MonkeyPatch())
stub_deploy.use_stub(Path(sys.argv[1]))
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
    """Run a step in a process of its own, and kill it after a random number of its requests to Azure.

    A moment counted in requests is reached on a slow and on a fast machine. A number drawn near the end may
    be more than the run needs: such a run is complete, and another number is drawn.
    """

    def __init__(self, double: AzureDouble, code: Path) -> None:
        self._double = double
        self._code = code
        self._random = random.Random(SEED)

    def count(self, run: Callable[[Progress], object]) -> int:
        """Return the number of requests that an uninterrupted run in this process sends."""
        begin = len(self._double.requests)
        run(Progress())
        return self._requests_since(begin)

    def kill(self, program: str, workspace: Path, settings: str, requests: int) -> bool:
        """Run ``program``, kill it after a random number of less than ``requests`` requests.

        Returns whether it was unfinished.
        """
        command = [sys.executable, "-c", program, str(self._code), str(workspace), settings]
        begin, last = len(self._double.requests), self._random.randrange(requests)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            assert child.stdout.readline() == "go\n"
            while self._requests_since(begin) < last and child.poll() is None:
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            return child.stdout.read() == ""

    def _requests_since(self, begin: int) -> int:
        # Requests to the app come from clients of the endpoint, those to the login host from the sign-in.
        hosts = [seen.host for seen in self._double.requests[begin:]]
        return sum(host == ARM_HOST or ".file." in host for host in hosts)


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[tuple[ServedApp, Killer]]:
    with fast_azure(tmp_path) as double:
        yield ServedApp(double, tmp_path), Killer(double, tmp_path / "serving")
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


@ROUNDS
def test_killed_provision_is_finished_by_the_next_one_and_started_once(
    azure: tuple[ServedApp, Killer], tmp_path: Path, rounds: int
) -> None:
    app, killer = azure
    step = ProvisionStep(app.double, tmp_path)
    step.prepare()
    requests = killer.count(step.run)
    unfinished = 0
    for _ in range(4 * rounds):
        step.prepare()
        unfinished += killer.kill(PROVISION, step.workspace.root, step.settings.model_dump_json(), requests)
        assert not app.double.apps.double.crashes
        step.run(Progress())
        assert step.check_after_retry() == []
        if unfinished == rounds:
            break
    assert unfinished == rounds


@ROUNDS
@pytest.mark.parametrize("name", ["start", "swap", "restart"])
def test_killed_deploy_keeps_the_active_release_and_is_finished_by_the_next_one(
    azure: tuple[ServedApp, Killer], name: str, rounds: int
) -> None:
    app, killer = azure
    step = DeployStep(app, name)
    step.prepare()
    requests = killer.count(step.run)
    unfinished = 0
    for _ in range(4 * rounds):
        step.prepare()
        settings = app.settings.model_dump_json()
        with step.watched():
            unfinished += killer.kill(DEPLOY, app.workspace.root, settings, requests)
            assert share_problems(app.share) == []
            step.run(Progress())
        assert step.check_after_fault(None) == []
        assert step.check_after_retry() == []
        numbers = [pointer.n for pointer in pointers(app.share)]
        assert numbers == sorted(set(numbers))
        if unfinished == rounds:
            break
    assert unfinished == rounds
