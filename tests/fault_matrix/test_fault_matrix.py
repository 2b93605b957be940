"""Azure fails at every request in every way: a step ends well, or says why and leaves nothing half done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtoolkit import AzureTarget, deploy
from nbtoolkit.errors import DeployFailed
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.azure_double.faults import Throttled
from tests.fault_matrix import matrix
from tests.fault_matrix.deploy_steps import Deploying, Serving
from tests.fault_matrix.fast import fast_azure
from tests.fault_matrix.journeys import run_journeys
from tests.fault_matrix.kinds import KINDS
from tests.fault_matrix.steps import close_clouds, new_cloud
from tests.support.azure_project import AzureProject

SEED = 20_261_122
PROCESSES = 2


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "seconds", [25.0, pytest.param(float("inf"), marks=pytest.mark.all)], ids=["sample", "all"]
)
def test_each_operation_with_each_fault_ends_well_or_says_why_and_leaves_nothing_half_done(
    seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = matrix.run(PROCESSES, SEED, seconds)
    with capsys.disabled():
        print(f"\n{matrix.summary(outcomes)}")
    bad = [
        f"{one.case}: {one.ended}: {one.said}\n  {problem}" for one in outcomes for problem in one.problems
    ]
    assert not bad, "\n".join(bad)
    struck = [one for one in outcomes if one.struck]
    assert len(struck) > 0.8 * len(outcomes), "too few faults met their request to show anything"
    if seconds == float("inf"):
        assert {one.case.kind for one in struck} == {kind.name for kind in KINDS}


# What happens in Azure, whatever is asked


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with fast_azure(tmp_path) as double:
        yield Serving(double, tmp_path)
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


def test_a_replica_that_gets_no_machine_is_named_and_the_next_deploy_serves(serving: Serving) -> None:
    step = Deploying(serving, "start")
    step.prepare()
    serving.double.apps.hold(serving.project.app)
    target = AzureTarget(serving.workspace, new_cloud(), poll=0.1, capacity_seconds=1)
    with pytest.raises(DeployFailed, match="assigned no machine") as caught:
        deploy(serving.settings, target=target)
    assert "region" in caught.value.next_step
    assert step.left(caught.value) == []
    serving.double.apps.hold(serving.project.app, stuck=False)
    step.run(Progress())
    assert step.finished() == []


def test_a_server_that_crashes_leaves_what_serves_and_the_next_deploy_serves(serving: Serving) -> None:
    step = Deploying(serving, "restart")
    step.prepare()
    serving.double.apps.crash(serving.project.app)
    with step.watched(), pytest.raises(DeployFailed) as caught:
        step.run(Progress())
    assert "times in a row" in caught.value.message
    assert step.left(caught.value) == []
    serving.double.apps.crash(serving.project.app, times=0)
    step.run(Progress())
    assert step.finished() == []


def test_log_streams_that_are_cut_again_and_again_end_no_deploy(serving: Serving) -> None:
    step = Deploying(serving, "restart")
    step.prepare()
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.1):
            serving.double.apps.cut_log_streams()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        step.run(Progress())
    finally:
        stop.set()
        thread.join()
    assert step.finished() == []


@pytest.mark.parametrize("where", ["containerApps/[^/]+$", "file.core.windows.net"])
def test_a_pause_that_azure_asks_for_is_kept(azure_double: AzureDouble, tmp_path: Path, where: str) -> None:
    project = AzureProject(azure_double, tmp_path)
    asked = azure_double.faults.on("GET", where, Throttled(1 / azure_double.clock.scale))
    begin = time.monotonic()
    if "file" in where:
        project.target.share.list("")
    else:
        project.target.app.get()
    assert asked.hits == 1
    assert time.monotonic() - begin >= 1
    project.target.cloud.close()


# Whole lives


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("walks", [1, pytest.param(10, marks=pytest.mark.all)], ids=["sample", "all"])
def test_random_walks_with_random_faults_and_the_real_engine(
    walks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    journeys = run_journeys([SEED + number for number in range(walks)], min(walks, PROCESSES))
    with capsys.disabled():
        for journey in journeys:
            print(f"\n{journey}")
    bad = [f"seed {one.seed}: {problem}" for one in journeys for problem in one.problems]
    assert not bad, "\n".join(bad)
    assert all(journey.steps[-1] == "teardown" for journey in journeys)
    assert sum(sum(journey.strikes.values()) for journey in journeys) > walks
