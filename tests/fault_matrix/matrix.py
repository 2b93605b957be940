"""Record the operations, strike each with each fault, and judge what becomes of the step."""

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

from .deploy_steps import Deploying, Serving
from .fast import fast_azure
from .kinds import BY_NAME, KINDS, Kind
from .operations import Operation, of_request, operation
from .provision_steps import AddingMachine, Changing, Provisioning
from .steps import Step, close_clouds

LATEST = 8
"""No later request is struck: where Azure is asked again and again, the number differs from run to run."""
TOO_LONG = 60.0
"""Seconds after which a run is cancelled, which counts as a problem."""
PROVISIONS = ("provision", "change", "add a machine")
DEPLOYS = ("swap", "restart", "start", "start of a stopped app")
"""The cheapest first: of either an operation is struck in the first step that sends it."""


@dataclass(frozen=True, order=True)
class Case:
    """One run of a step with one fault at the nth request of one operation."""

    step: str
    operation: Operation
    kind: str
    nth: int

    def __str__(self) -> str:
        return f"{self.step}, {self.operation}, {self.kind}, request {self.nth}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``ended`` is success or the error's class; ``problems`` must be empty."""

    case: Case
    struck: bool
    ended: str
    said: str
    problems: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Part:
    """What one process does: which of how many parts, for how long once it is set up, which step only."""

    number: int
    of: int
    seed: int
    seconds: float
    only: str = ""


def run(parts: int, seed: int, seconds: float = float("inf"), only: str = "") -> list[Outcome]:
    """Run the matrix in so many processes; where ``seconds`` are short, a sample by chance."""
    wanted = [Part(number, parts, seed, seconds, only) for number in range(parts)]
    with ProcessPoolExecutor(parts, get_context("spawn")) as pool:
        return [outcome for found in pool.map(run_part, wanted) for outcome in found]


def run_part(part: Part) -> list[Outcome]:
    """Run one part, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, fast_azure(Path(folder)) as double:
        worker = _Worker(double, Path(folder), part.only)
        chosen = [case for case in worker.cases(part.seed) if _share(case) % part.of == part.number]
        random.Random(part.seed).shuffle(chosen)
        outcomes: list[Outcome] = []
        end = time.monotonic() + part.seconds
        for case in chosen:
            if time.monotonic() > end:
                break
            outcomes.append(worker.try_out(case))
            if log := os.environ.get("FAULT_LOG"):  # what was found so far, while hours-long runs go on
                with Path(f"{log}.{part.number}").open("a") as file:
                    file.write(f"{len(outcomes)}/{len(chosen)} {outcomes[-1]}\n")
        if double.crashes:
            raise AssertionError("\n".join(double.crashes))
        return outcomes


def summary(outcomes: Sequence[Outcome]) -> str:
    """The counts, for people."""
    struck = [one for one in outcomes if one.struck]
    operations = {one.case.operation for one in struck}
    ends = Counter(one.ended for one in struck)
    lines = [
        f"{len(operations)} operations × {len({one.case.kind for one in struck})} kinds of faults: "
        f"{len(struck)} runs struck, {len(outcomes) - len(struck)} not reached, "
        f"{sum(bool(one.problems) for one in outcomes)} with problems",
        *(f"  {name}: {count}" for name, count in ends.most_common()),
    ]
    return "\n".join(lines)


class _Worker:
    def __init__(self, double: AzureDouble, root: Path, only: str) -> None:
        self._double = double
        self._root = root
        self._steps: dict[str, Step] = {}
        self._counts: dict[str, Counter[Operation]] = {}
        self._serving: Serving | None = None
        if not only or only in DEPLOYS:
            self._serve()
        if not only or only in PROVISIONS:
            self._provide()
        for name in (*PROVISIONS, *DEPLOYS):
            if name in self._steps and only in ("", name):
                self._counts[name] = self._record(self._steps[name])

    def cases(self, seed: int) -> Iterable[Case]:
        """Each operation of provisions and of deploys with each kind of fault: at first, and later."""
        seen: dict[bool, set[Operation]] = {True: set(), False: set()}
        for name, counts in self._counts.items():
            known = seen[name in DEPLOYS]
            mine = sorted(one for one in counts if one not in known)
            known.update(mine)
            for one in mine:
                for kind in KINDS:
                    if kind.meets(one):
                        yield Case(name, one, kind.name, 1)
                        chance = random.Random(f"{seed} {name} {one} {kind.name}")
                        if counts[one] > 1:
                            yield Case(name, one, kind.name, chance.randint(2, min(counts[one], LATEST)))

    def try_out(self, case: Case) -> Outcome:
        """Run a case; what it spoils is made anew for the next."""
        begin = time.monotonic()
        step = self._steps[case.step]
        if self._serving:
            by_token = "token" in case.kind or _share(case) % 3 == 0
            self._serving.sign_in_to_share(by_token=by_token)
        try:
            step.prepare()
            ended, said, struck, problems = self._strike(step, case, BY_NAME[case.kind])
        except Exception:  # noqa: BLE001 - whatever it was, it is this case's problem
            ended, said, struck, problems = "broken", "", True, [traceback.format_exc()]
        self._double.faults.clear()
        close_clouds()
        if problems:
            self._serve() if case.step in DEPLOYS else self._provide()
        return Outcome(case, struck, ended, said, tuple(problems), time.monotonic() - begin)

    def _strike(self, step: Step, case: Case, kind: Kind) -> tuple[str, str, bool, list[str]]:
        with step.watched():
            planned = self._double.faults.on(
                case.operation.method,
                "",
                kind.strike,
                nth=case.nth,
                times=kind.times,
                when=lambda request: of_request(request) == case.operation,
            )
            error, problems = attempt(step.run, TOO_LONG)
            self._double.faults.clear()
        problems += step.left(error)
        again, more = attempt(step.run, TOO_LONG)
        problems += [f"the next run: {one}" for one in more]
        if again is not None:
            problems.append(f"the next run failed: {again}")
        else:
            problems += step.finished()
        ended = "success" if error is None else type(error).__name__
        return ended, str(error or ""), planned.hits > 0, problems

    def _record(self, step: Step) -> Counter[Operation]:
        step.prepare()
        since = len(self._double.requests)
        step.run(Progress())
        seen = self._double.requests[since:]
        return Counter(operation(one.method, one.host, one.path, one.query) for one in seen)

    def _serve(self) -> None:
        self._serving = Serving(self._double, self._root)
        for name in DEPLOYS:
            self._steps[name] = Deploying(self._serving, name)

    def _provide(self) -> None:
        present = Provisioning(self._double, self._root)
        present.prepare()
        present.run(Progress())
        steps: list[Step] = [
            Provisioning(self._double, self._root),
            Changing(present),
            AddingMachine(self._double, self._root),
        ]
        self._steps.update((step.name, step) for step in steps)


def attempt(run: Callable[[Progress], object], seconds: float) -> tuple[Exception | None, list[str]]:
    """Run a step, for so long at most; return how it failed, and what is wrong with that."""
    progress = Progress()
    alarm = threading.Timer(seconds, progress.cancel)
    alarm.start()
    try:
        run(progress)
    except Cancelled as error:
        return error, [f"it did not end within {seconds:g} s"]
    except NbtoolkitError as error:
        return error, _poor(error)
    except Exception as error:  # noqa: BLE001 - users must never meet one
        return error, [f"a bare {type(error).__name__}: {traceback.format_exc()}"]
    finally:
        alarm.cancel()
    return None, []


def _poor(error: NbtoolkitError) -> list[str]:
    """What an error fails to say."""
    found: list[str] = []
    if len(error.message) < 20:
        found.append(f"no cause is named: {error.message!r}")
    if len(error.next_step) < 8:
        found.append(f"no next step is named: {error.next_step!r}")
    if "Traceback" in error.message or "<html" in error.message:
        found.append(f"the message is not for people: {error.message!r}")
    return found


def _share(case: Case) -> int:
    """The part to which a case belongs, the same in every process."""
    return zlib.crc32(str(case).encode())
