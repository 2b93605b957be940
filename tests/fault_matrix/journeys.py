"""Random walks through a workspace's life on Azure, with the real engine and random faults on the way."""

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

from .fast import fast_azure
from .kinds import KINDS, Kind
from .matrix import attempt
from .operations import of_request
from .share_checks import broken_state, pointers, torn
from .steps import close_clouds, new_cloud

ADAPTERS = ("one", "two", "three")
GROUP = "rg-journey"
WORKS = ("provision", "deploy", "deploy", "deploy", "rollback", "status", "status", "logs", "stop", "start")


@dataclass
class Journey:
    """What one walk did and met; ``problems`` must be empty."""

    seed: int
    steps: list[str] = field(default_factory=list)
    strikes: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        struck = ", ".join(f"{name} {number}" for name, number in self.strikes.most_common())
        ends = ", ".join(f"{name} {number}" for name, number in self.ends.most_common())
        walk = " → ".join(self.steps)
        return f"seed {self.seed}: {walk}\n  ended: {ends}; faults: {struck or 'none'}; {self.seconds:.0f} s"


def run_journeys(seeds: list[int], processes: int, length: int = 8) -> list[Journey]:
    """Walk once for each seed, in processes of their own."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return list(pool.map(walk, seeds, [length] * len(seeds)))


def walk(seed: int, length: int) -> Journey:
    """Provision and deploy, do what chance says, and tear all down in the end."""
    begin = time.monotonic()
    journey = Journey(seed)
    with (
        tempfile.TemporaryDirectory(prefix="journey-") as folder,
        fast_azure(Path(folder), stub=False) as double,
    ):
        traveller = _Traveller(double, Path(folder) / "workspace", journey)
        for name in ["provision", "deploy", *traveller.chance.choices(WORKS, k=length), "teardown"]:
            traveller.go(name)
            if journey.problems:
                break
        journey.problems += double.crashes
    journey.seconds = time.monotonic() - begin
    return journey


class _Traveller:
    def __init__(self, double: AzureDouble, root: Path, journey: Journey) -> None:
        (root / "infra").mkdir(parents=True)
        self.chance = random.Random(journey.seed)
        self._double = double
        self._journey = journey
        self._workspace = Workspace(root)
        base = tiny_base(root / "tiny")
        for number, name in enumerate(ADAPTERS, start=1):
            tiny_adapter(root / name, base, seed=number)
        self._hash = {name: Adapter.read(root / name).sha256[:16] for name in ADAPTERS}
        self._served: str | None = None
        self._runs = False
        self._limits = {"max_concurrency": 4}
        self._releases: dict[str, str] = {}

    def go(self, name: str) -> None:
        """Do one thing among faults, then again without; look whether all is as it should be."""
        action = self._action(name)
        if action is None:
            return
        planned = [self._fault() for _ in range(self.chance.choice((0, 1, 1, 2, 3)))]
        error, problems = attempt(action, 150)
        self._double.faults.clear()
        close_clouds()
        self._journey.strikes.update(kind.name for kind, fault in planned if fault.hits)
        self._journey.ends["success" if error is None else type(error).__name__] += 1
        problems += self._torn()
        if error is not None:
            if not any(fault.hits for _, fault in planned):
                problems.append(f"failed without a fault: {error}")
            again, more = attempt(action, 150)
            problems += more
            if again is not None:
                problems.append(f"failed again, without a fault: {again}\nfirst: {error}")
        problems += self._torn()
        if not problems:
            problems += self._answers()
        self._journey.problems += [f"{name}: {one}" for one in problems]

    def _fault(self) -> tuple[Kind, object]:
        """Let a fault strike some request to come."""
        kind = self.chance.choice(KINDS)
        turn, wanted = count(1), self.chance.randint(1, 60)

        def when(request: Request) -> bool:
            return kind.meets(of_request(request)) and next(turn) >= wanted

        return kind, self._double.faults.on(".*", "", kind.strike, times=kind.times, when=when)

    def _action(self, name: str) -> Callable[[Progress], object] | None:
        """What a step of this name does now, noted in the journey; None where it makes no sense."""
        self._journey.steps.append(name)
        match name:
            case "provision":
                return self._provision
            case "deploy":
                wanted = self.chance.choice(ADAPTERS)
                if self.chance.random() < 0.25:
                    self._limits = {"max_concurrency": self.chance.randint(2, 9)}
                self._journey.steps[-1] += f" {wanted}/{self._limits['max_concurrency']}"
                return lambda progress: self._deploy(wanted, progress)
            case "rollback":
                wanted = self.chance.choice(sorted(self._releases))
                self._journey.steps[-1] += f" to {self._releases[wanted]}"
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
        place = ResourceNames.read(self._workspace)
        settings = TeardownSettings(scope="all", confirm_name=place.app)
        gone = teardown(settings, workspace=self._workspace, cloud=new_cloud(), progress=progress)
        if left := [str(one) for one in gone.left if "/providers/" in one.id]:  # an empty group may stay
            self._journey.problems.append(f"left: {left}")
        self._served = None

    def _torn(self) -> list[str]:
        problems = broken_state(self._workspace.root)
        share = self._share()
        return problems + (torn(share) if share else [])

    def _answers(self) -> list[str]:
        """Ask who answers, where something should."""
        share = self._share()
        if self._served is None or share is None:
            return []
        release = pointers(share)[-1].release
        if self._releases.get(release) != self._served:
            return [f"{release} is public, and {self._served} was deployed"]
        if not self._runs:
            return []
        endpoint = self._target().endpoint()
        headers = {"Authorization": f"Bearer {endpoint.key.get_secret_value()}"}
        body = {"model": "tone", "prompt": [3, 1, 4], "max_tokens": 2}
        deadline = time.monotonic() + 90
        while True:  # an app that was started answers only once its server is ready
            response = httpx.post(f"{endpoint.url}/v1/completions", json=body, headers=headers, timeout=90)
            if response.status_code == 200:
                found = response.json()["system_fingerprint"]
                wrong = found != self._hash[self._served]
                return [f"{found} answers, not {self._served}"] if wrong else []
            if response.status_code not in (503, 504) or time.monotonic() > deadline:
                return [f"it answers {response.status_code}: {response.text[:200]}"]
            time.sleep(0.3)

    def _target(self) -> AzureTarget:
        return AzureTarget(self._workspace, new_cloud(), poll=0.2)

    def _share(self) -> Path | None:
        try:
            place = ResourceNames.read(self._workspace)
        except NbtoolkitError:
            return None
        if self._double.files.share(place.storage_account, place.file_share) is None:
            return None
        return self._double.files.folder(place.storage_account, place.file_share)
