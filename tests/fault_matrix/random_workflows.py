"""Random sequences of steps on Azure with the real engine and random faults."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import httpx

from nbtoolkit import (
    Adapter,
    AzureTarget,
    DeploySettings,
    ProvisionSettings,
    ScaleSettings,
    TeardownSettings,
    Workspace,
    deploy,
    provision,
    rollback,
    scale,
    teardown,
)
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import SUBSCRIPTION, AzureDouble, Request
from tests.support.tiny_models import tiny_adapter, tiny_base

from .fast_azure import fast_azure
from .fault_kinds import FAULT_KINDS, FaultKind
from .matrix import attempt
from .operations import of_request
from .share_checks import pointers, share_problems, workspace_problems
from .steps import close_clouds, new_cloud

ADAPTERS = ("one", "two", "three")
GROUP = "rg-workflow"
STEPS = ("provision", "deploy", "deploy", "deploy", "rollback", "status", "status", "logs", "stop", "start")


@dataclass
class WorkflowRun:
    """The steps, faults and results of one workflow; ``problems`` must be empty."""

    seed: int
    steps: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        faults = ", ".join(f"{name} {number}" for name, number in self.faults.most_common())
        results = ", ".join(f"{name} {number}" for name, number in self.results.most_common())
        steps = " → ".join(self.steps)
        counts = f"results: {results}; faults: {faults or 'none'}"
        return f"seed {self.seed}: {steps}\n  {counts}; {self.seconds:.0f} s"


def run_workflows(seeds: list[int], processes: int, length: int = 8) -> list[WorkflowRun]:
    """Run a workflow for each seed in its own process."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return list(pool.map(run_workflow, seeds, [length] * len(seeds)))


def run_workflow(seed: int, length: int) -> WorkflowRun:
    """Provision, deploy, run random steps, and tear down."""
    begin = time.monotonic()
    run = WorkflowRun(seed)
    with (
        tempfile.TemporaryDirectory(prefix="workflow-") as folder,
        fast_azure(Path(folder), stub=False) as double,
    ):
        workflow = _Workflow(double, Path(folder) / "workspace", run)
        for name in ["provision", "deploy", *workflow.rng.choices(STEPS, k=length), "teardown"]:
            workflow.run_step(name)
            if run.problems:
                break
        run.problems += double.crashes
    run.seconds = time.monotonic() - begin
    return run


class _Workflow:
    def __init__(self, double: AzureDouble, root: Path, run: WorkflowRun) -> None:
        (root / "infra").mkdir(parents=True)
        self.rng = random.Random(run.seed)
        self._double = double
        self._run = run
        self._workspace = Workspace(root)
        base = tiny_base(root / "tiny")
        for number, name in enumerate(ADAPTERS, start=1):
            tiny_adapter(root / name, base, seed=number)
        self._hash = {name: Adapter.read(root / name).sha256[:16] for name in ADAPTERS}
        self._served: str | None = None
        self._runs = False
        self._limits = {"max_concurrency": 4}
        self._releases: dict[str, str] = {}

    def run_step(self, name: str) -> None:
        """Run one step with faults and, if it failed, again without; check the state."""
        action = self._action(name)
        planned = [self._fault() for _ in range(self.rng.choice((0, 1, 1, 2, 3)))]
        error, problems = attempt(action, 150)
        self._double.faults.clear()
        close_clouds()
        self._run.faults.update(kind.name for kind, fault in planned if fault.hits)
        self._run.results["success" if error is None else type(error).__name__] += 1
        problems += self._find_problems()
        if error is not None:
            if not any(fault.hits for _, fault in planned):
                problems.append(f"failed without a fault: {error}")
            again, more = attempt(action, 150)
            problems += more
            if again is not None:
                problems.append(f"failed again, without a fault: {again}\nfirst: {error}")
        problems += self._find_problems()
        if not problems:
            problems += self._check_response()
        self._run.problems += [f"{name}: {one}" for one in problems]

    def _fault(self) -> tuple[FaultKind, object]:
        """Plan a random fault at a random later request."""
        kind = self.rng.choice(FAULT_KINDS)
        turn, wanted = count(1), self.rng.randint(1, 60)

        def when(request: Request) -> bool:
            return kind.applies_to(of_request(request)) and next(turn) >= wanted

        return kind, self._double.faults.on(".*", "", kind.fault, times=kind.times, when=when)

    def _action(self, name: str) -> Callable[[Progress], object]:
        """Return the action of a step and record it."""
        self._run.steps.append(name)
        match name:
            case "provision":
                return self._provision
            case "deploy":
                wanted = self.rng.choice(ADAPTERS)
                if self.rng.random() < 0.25:
                    self._limits = {"max_concurrency": self.rng.randint(2, 9)}
                self._run.steps[-1] += f" {wanted}/{self._limits['max_concurrency']}"
                return lambda progress: self._deploy(wanted, progress)
            case "rollback":
                wanted = self.rng.choice(sorted(self._releases))
                self._run.steps[-1] += f" to {self._releases[wanted]}"
                return lambda progress: self._rollback(wanted, progress)
            case "status":
                return lambda _: str(self._target().status())
            case "logs":
                return lambda progress: list(self._target().logs(tail=20, progress=progress))
            case "stop" | "start":
                return lambda progress: self._scale(name == "start", progress)
            case _:
                return self._teardown

    def _provision(self, progress: Progress) -> None:
        settings = ProvisionSettings(
            subscription=SUBSCRIPTION,
            resource_group=GROUP,
            location="westus3",
            gpu="none",
            create_resource_group=True,
        )
        provision(settings, apply=True, workspace=self._workspace, cloud=new_cloud(), progress=progress)

    def _deploy(self, wanted: str, progress: Progress) -> None:
        settings = DeploySettings(
            adapters={"tone": wanted},
            base="tiny",
            dtype="float32",
            override_reason="random weights",
            wheels_lock="none",
            target="azure",
            timeout=90,
            **self._limits,
        )
        done = deploy(settings, target=self._target(), progress=progress)
        self._releases[done.release.id] = wanted
        self._served, self._runs = wanted, True

    def _rollback(self, wanted: str, progress: Progress) -> None:
        rollback(wanted, target=self._target(), timeout=90, progress=progress)
        self._served, self._runs = self._releases[wanted], True

    def _scale(self, running: bool, progress: Progress) -> None:
        scale(ScaleSettings(running=running), target=self._target(), progress=progress)
        self._runs = running

    def _teardown(self, progress: Progress) -> None:
        names = ResourceNames.read(self._workspace)
        settings = TeardownSettings(scope="all", confirm_name=names.app)
        gone = teardown(settings, workspace=self._workspace, cloud=new_cloud(), progress=progress)
        if left := [str(one) for one in gone.left if "/providers/" in one.id]:  # an empty group may remain
            self._run.problems.append(f"left: {left}")
        self._served = None

    def _find_problems(self) -> list[str]:
        problems = workspace_problems(self._workspace.root)
        share = self._share()
        return problems + (share_problems(share) if share else [])

    def _check_response(self) -> list[str]:
        """Check which adapter answers, if one must."""
        share = self._share()
        if self._served is None or share is None:
            return []
        release = pointers(share)[-1].release
        if self._releases.get(release) != self._served:
            return [f"{release} is active, and {self._served} was deployed"]
        if not self._runs:
            return []
        endpoint = self._target().endpoint()
        headers = {"Authorization": f"Bearer {endpoint.key.get_secret_value()}"}
        body = {"model": "tone", "prompt": [3, 1, 4], "max_tokens": 2}
        deadline = time.monotonic() + 90
        while True:  # a started app responds once its server is ready
            response = httpx.post(f"{endpoint.url}/v1/completions", json=body, headers=headers, timeout=90)
            if response.status_code == 200:
                found = response.json()["system_fingerprint"]
                wrong = found != self._hash[self._served]
                return [f"the answer is from {found}, not {self._served}"] if wrong else []
            if response.status_code not in (503, 504) or time.monotonic() > deadline:
                return [f"the response is {response.status_code}: {response.text[:200]}"]
            time.sleep(0.3)

    def _target(self) -> AzureTarget:
        return AzureTarget(self._workspace, new_cloud(), poll=0.2)

    def _share(self) -> Path | None:
        try:
            names = ResourceNames.read(self._workspace)
        except NbtoolkitError:
            return None
        if self._double.files.share(names.storage_account, names.file_share) is None:
            return None
        return self._double.files.folder(names.storage_account, names.file_share)
