"""Each request to Azure with each fault: a step succeeds, or reports the cause and leaves a valid state."""

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
from tests.fault_matrix.deploy_steps import DeployStep, ServedApp
from tests.fault_matrix.fast_azure import fast_azure
from tests.fault_matrix.fault_kinds import FAULT_KINDS
from tests.fault_matrix.random_workflows import run_workflows
from tests.fault_matrix.steps import close_clouds, new_cloud
from tests.support.azure_project import AzureProject

SEED = 20_261_122
PROCESSES = 2


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "seconds", [25.0, pytest.param(float("inf"), marks=pytest.mark.all)], ids=["sample", "all"]
)
def test_each_fault_at_each_operation_is_retried_or_reported_and_leaves_a_valid_state(
    seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = matrix.run(PROCESSES, SEED, seconds)
    with capsys.disabled():
        print(f"\n{matrix.summary(outcomes)}")
    bad = [
        f"{one.case}: {one.result}: {one.message}\n  {problem}"
        for one in outcomes
        for problem in one.problems
    ]
    assert not bad, "\n".join(bad)
    hit = [one for one in outcomes if one.hit]
    assert len(hit) > 0.8 * len(outcomes), "too few faults hit a request"
    if seconds == float("inf"):
        assert {one.case.kind for one in hit} == {kind.name for kind in FAULT_KINDS}


# Failures of Azure without a failed request


@pytest.fixture
def app(tmp_path: Path) -> Iterator[ServedApp]:
    with fast_azure(tmp_path) as double:
        yield ServedApp(double, tmp_path)
        close_clouds()
        assert not double.crashes, "\n".join(double.crashes)


def test_a_replica_without_a_machine_is_reported_and_the_next_deploy_succeeds(app: ServedApp) -> None:
    step = DeployStep(app, "start")
    step.prepare()
    app.double.apps.hold(app.names.app)
    target = AzureTarget(app.workspace, new_cloud(), poll=0.1, capacity_seconds=1)
    with pytest.raises(DeployFailed, match="assigned no machine") as caught:
        deploy(app.settings, target=target)
    assert "region" in caught.value.next_step
    assert step.check_after_fault(caught.value) == []
    app.double.apps.hold(app.names.app, stuck=False)
    step.run(Progress())
    assert step.check_after_retry() == []


def test_a_crashing_server_keeps_the_previous_release_and_the_next_deploy_succeeds(app: ServedApp) -> None:
    step = DeployStep(app, "restart")
    step.prepare()
    app.double.apps.crash(app.names.app)
    with step.watched(), pytest.raises(DeployFailed) as caught:
        step.run(Progress())
    assert "times in a row" in caught.value.message
    assert step.check_after_fault(caught.value) == []
    app.double.apps.crash(app.names.app, times=0)
    step.run(Progress())
    assert step.check_after_retry() == []


def test_a_deploy_succeeds_while_log_streams_are_interrupted(app: ServedApp) -> None:
    step = DeployStep(app, "restart")
    step.prepare()
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.1):
            app.double.apps.cut_log_streams()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        step.run(Progress())
    finally:
        stop.set()
        thread.join()
    assert step.check_after_retry() == []


@pytest.mark.parametrize("where", ["containerApps/[^/]+$", "file.core.windows.net"])
def test_retry_after_is_respected(azure_double: AzureDouble, tmp_path: Path, where: str) -> None:
    project = AzureProject(azure_double, tmp_path)
    fault = azure_double.faults.on("GET", where, Throttled(1 / azure_double.clock.scale))
    begin = time.monotonic()
    if "file" in where:
        project.target.share.list("")
    else:
        project.target.app.get()
    assert fault.hits == 1
    assert time.monotonic() - begin >= 1
    project.target.cloud.close()


# Random workflows


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [1, pytest.param(10, marks=pytest.mark.all)], ids=["sample", "all"])
def test_random_workflows_with_random_faults_and_the_real_engine(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = run_workflows([SEED + number for number in range(count)], min(count, PROCESSES))
    with capsys.disabled():
        for run in runs:
            print(f"\n{run}")
    bad = [f"seed {one.seed}: {problem}" for one in runs for problem in one.problems]
    assert not bad, "\n".join(bad)
    assert all(run.steps[-1] == "teardown" for run in runs)
    assert sum(sum(run.faults.values()) for run in runs) > count
