"""Record the operations of each step, run it with each fault at each operation, and check the result."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from nbtoolkit.errors import Cancelled, NbtoolkitError
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble

from .deploy_steps import DeployStep, ServedApp
from .fast_azure import fast_azure
from .fault_kinds import BY_NAME, FAULT_KINDS, FaultKind
from .operations import Operation, of_request, operation
from .provision_steps import AddProfileStep, ChangeSettingsStep, ProvisionStep
from .steps import Step, close_clouds

MAX_NTH = 8
"""No fault hits a later request: the number of polls differs from run to run."""
RUN_TIMEOUT = 120.0
"""Seconds after which a run is cancelled, which is a problem."""
PROVISION_STEPS = ("provision", "change", "add a profile")
DEPLOY_STEPS = ("swap", "restart", "start", "start of a stopped app")
"""Ordered by cost: an operation is tested in the first step that sends it."""


@dataclass(frozen=True, order=True)
class Case:
    """A run of a step with a fault at the nth request of an operation."""

    step: str
    operation: Operation
    kind: str
    nth: int

    def __str__(self) -> str:
        return f"{self.step}, {self.operation}, {self.kind}, request {self.nth}"


@dataclass(frozen=True)
class Outcome:
    """The result of a case: "success" or the error's class; ``problems`` must be empty."""

    case: Case
    hit: bool
    result: str
    message: str
    problems: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Part:
    """The share of one process: part ``number`` of ``of``, seconds to run, and optionally the only step."""

    number: int
    of: int
    seed: int
    seconds: float
    only: str = ""


def run(parts: int, seed: int, seconds: float = float("inf"), only: str = "") -> list[Outcome]:
    """Run the matrix in ``parts`` processes; a random sample if ``seconds`` are not enough."""
    wanted = [Part(number, parts, seed, seconds, only) for number in range(parts)]
    with ProcessPoolExecutor(parts, get_context("spawn")) as pool:
        return [outcome for found in pool.map(run_part, wanted) for outcome in found]


def run_part(part: Part) -> list[Outcome]:
    """Run one part in this process."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, fast_azure(Path(folder)) as double:
        worker = _Worker(double, Path(folder), part.only)
        chosen = [case for case in worker.cases(part.seed) if _case_hash(case) % part.of == part.number]
        random.Random(part.seed).shuffle(chosen)
        outcomes: list[Outcome] = []
        end = time.monotonic() + part.seconds
        for case in chosen:
            if time.monotonic() > end:
                break
            outcomes.append(worker.run_case(case))
            if log := os.environ.get("FAULT_LOG"):  # intermediate results of a run of hours
                with Path(f"{log}.{part.number}").open("a") as file:
                    file.write(f"{len(outcomes)}/{len(chosen)} {outcomes[-1]}\n")
        if double.crashes:
            raise AssertionError("\n".join(double.crashes))
        return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the counts as text."""
    hit = [one for one in outcomes if one.hit]
    operations = {one.case.operation for one in hit}
    results = Counter(one.result for one in hit)
    lines = [
        f"{len(operations)} operations × {len({one.case.kind for one in hit})} kinds of faults: "
        f"{len(hit)} runs hit, {len(outcomes) - len(hit)} not reached, "
        f"{sum(bool(one.problems) for one in outcomes)} with problems",
        *(f"  {name}: {count}" for name, count in results.most_common()),
    ]
    return "\n".join(lines)


class _Worker:
    def __init__(self, double: AzureDouble, root: Path, only: str) -> None:
        self._double = double
        self._root = root
        self._steps: dict[str, Step] = {}
        self._counts: dict[str, Counter[Operation]] = {}
        self._app: ServedApp | None = None
        if not only or only in DEPLOY_STEPS:
            self._add_deploy_steps()
        if not only or only in PROVISION_STEPS:
            self._add_provision_steps()
        for name in (*PROVISION_STEPS, *DEPLOY_STEPS):
            if name in self._steps and only in ("", name):
                self._counts[name] = self._record(self._steps[name])

    def cases(self, seed: int) -> Iterable[Case]:
        """Yield each operation with each fault: at its first request and at a later one."""
        seen: dict[bool, set[Operation]] = {True: set(), False: set()}
        for name, counts in self._counts.items():
            known = seen[name in DEPLOY_STEPS]
            mine = sorted(one for one in counts if one not in known)
            known.update(mine)
            for one in mine:
                for kind in FAULT_KINDS:
                    if kind.applies_to(one):
                        yield Case(name, one, kind.name, 1)
                        chance = random.Random(f"{seed} {name} {one} {kind.name}")
                        if counts[one] > 1:
                            yield Case(name, one, kind.name, chance.randint(2, min(counts[one], MAX_NTH)))

    def run_case(self, case: Case) -> Outcome:
        """Run a case; after problems, create the resources again."""
        begin = time.monotonic()
        step = self._steps[case.step]
        if self._app:
            by_token = "token" in case.kind or _case_hash(case) % 3 == 0
            self._app.sign_in_to_share(by_token=by_token)
        try:
            step.prepare()
            result, message, hit, problems = self._run_with_fault(step, case, BY_NAME[case.kind])
        except Exception:  # noqa: BLE001 - reported as a problem of this case
            result, message, hit, problems = "broken", "", True, [traceback.format_exc()]
        self._double.faults.clear()
        close_clouds()
        if problems:
            self._add_deploy_steps() if case.step in DEPLOY_STEPS else self._add_provision_steps()
        return Outcome(case, hit, result, message, tuple(problems), time.monotonic() - begin)

    def _run_with_fault(self, step: Step, case: Case, kind: FaultKind) -> tuple[str, str, bool, list[str]]:
        with step.watched():
            planned = self._double.faults.on(
                case.operation.method,
                "",
                kind.fault,
                nth=case.nth,
                times=kind.times,
                when=lambda request: of_request(request) == case.operation,
            )
            error, problems = attempt(step.run, RUN_TIMEOUT)
            self._double.faults.clear()
        problems += step.check_after_fault(error)
        again, more = attempt(step.run, RUN_TIMEOUT)
        problems += [f"the next run: {one}" for one in more]
        if again is not None:
            problems.append(f"the next run failed: {again}")
        else:
            problems += step.check_after_retry()
        result = "success" if error is None else type(error).__name__
        return result, str(error or ""), planned.hits > 0, problems

    def _record(self, step: Step) -> Counter[Operation]:
        step.prepare()
        since = len(self._double.requests)
        step.run(Progress())
        seen = self._double.requests[since:]
        return Counter(operation(one.method, one.host, one.path, one.query) for one in seen)

    def _add_deploy_steps(self) -> None:
        self._app = ServedApp(self._double, self._root)
        for name in DEPLOY_STEPS:
            self._steps[name] = DeployStep(self._app, name)

    def _add_provision_steps(self) -> None:
        present = ProvisionStep(self._double, self._root)
        present.prepare()
        present.run(Progress())
        steps: list[Step] = [
            ProvisionStep(self._double, self._root),
            ChangeSettingsStep(present),
            AddProfileStep(self._double, self._root),
        ]
        self._steps.update((step.name, step) for step in steps)


def attempt(run: Callable[[Progress], object], seconds: float) -> tuple[Exception | None, list[str]]:
    """Run a step for at most ``seconds``; return its error and the problems with that error."""
    progress = Progress()
    timer = threading.Timer(seconds, progress.cancel)
    timer.start()
    try:
        run(progress)
    except Cancelled as error:
        return error, [f"it did not end within {seconds:g} s"]
    except NbtoolkitError as error:
        return error, _missing_facts(error)
    except Exception as error:  # noqa: BLE001 - users must never see one
        return error, [f"a bare {type(error).__name__}: {traceback.format_exc()}"]
    finally:
        timer.cancel()
    return None, []


def _missing_facts(error: NbtoolkitError) -> list[str]:
    """Return what an error does not say."""
    found: list[str] = []
    if len(error.message) < 20:
        found.append(f"the message has no cause: {error.message!r}")
    if len(error.next_step) < 8:
        found.append(f"there is no next step: {error.next_step!r}")
    if "Traceback" in error.message or "<html" in error.message:
        found.append(f"the message has a traceback or HTML: {error.message!r}")
    return found


def _case_hash(case: Case) -> int:
    """Return a hash that is the same in every process."""
    return zlib.crc32(str(case).encode())
