"""G7, the contract level: the very server that will run remotely, started here for a moment."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nbtoolkit.errors import NotReady, RequestRefused, ServerFailed
from nbtoolkit.local import LocalTarget
from nbtoolkit.progress import Progress
from nbtoolkit.releases import publisher
from nbtoolkit.releases.builder import build_release
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.serving.release import EngineSettings, Release
from nbtoolkit.smoke.check import CheckOutcome, check
from nbtoolkit.smoke.context import Subject
from nbtoolkit.smoke.contract_checks import ADAPTER, Item, questions
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.workspace import Workspace

_PORT = 7960
"""Tried first; away from the port of a server that is meant to stay."""


@dataclass(frozen=True)
class ContractSubject:
    """An adapter that passed the model level; ``so_far`` is its report until here, with the fingerprint."""

    subject: Subject
    fingerprint: Fingerprint
    so_far: SmokeReport
    workspace: Workspace
    progress: Progress


@check("G7", "contract", "contract")
def serving(contract: ContractSubject) -> CheckOutcome:
    """Serve the adapter from a share of its own and ask everything that a client relies on."""
    items: list[Item] = []
    with tempfile.TemporaryDirectory(prefix="nbtoolkit-smoke-") as folder:
        target = LocalTarget(contract.workspace, Path(folder) / "target", keep=False, port=_PORT)
        try:
            release = _start(contract, target, Path(folder))
            seconds = _wait(contract, target, release)
            for question in questions(target.endpoint(), release, contract.fingerprint):
                contract.progress.phase(f"Smoke test: asking the server about {question.name}")
                items.append(question.answer())
        except (ServerFailed, NotReady, RequestRefused) as error:
            said = list(target.logs(tail=40))
            causes = [line for line in said if "Error" in line]
            cause = f" {causes[-1].strip()}" if causes and len(error.message.splitlines()) > 1 else ""
            return CheckOutcome(
                "fail",
                f"the server does not serve this adapter: {error.message.splitlines()[0]}{cause}",
                {**_evidence(items), "error": error.message, "log": said},
                "see the log lines in this check's evidence: report.checks[-1].evidence['log']",
            )
        finally:
            target.destroy()
    wrong = [item for item in items if not item.fine]
    evidence = {**_evidence(items), "seconds_to_ready": round(seconds, 2)}
    if wrong:
        return CheckOutcome(
            "fail",
            "; ".join(f"{item.name}: {item.said}" for item in wrong),
            evidence,
            "the server breaks its contract with this model: report it with this page",
        )
    return CheckOutcome(
        "pass", f"all {len(items)} points of the contract hold, ready in {seconds:.1f} s", evidence
    )


def _start(contract: ContractSubject, target: LocalTarget, folder: Path) -> Release:
    """Publish a release of this adapter on the target's share and start its server."""
    subject, settings = contract.subject, contract.subject.settings
    contract.progress.phase("Smoke test: starting the real server")
    report = folder / "report.json"
    report.write_bytes(contract.so_far.content)
    release = build_release(
        subject.base,
        str(subject.base.path),
        {ADAPTER: subject.adapter},
        EngineSettings(kind=settings.engine, dtype=settings.dtype, quantization=settings.quantization),
        publisher.code_sha256(publisher.serving_folder()),
        reports={ADAPTER: contract.so_far.sha256},
    )
    target.provision(contract.progress)
    publisher.stage_release(
        target.share,
        release,
        {ADAPTER: subject.adapter},
        publisher.serving_folder(),
        {ADAPTER: report},
        contract.progress,
    )
    publisher.publish_release(
        target.share, release.id, expected=0, by=publisher.publisher_name(contract.workspace.root)
    )
    target.activate(release, restart=False, progress=contract.progress)
    return release


def _wait(contract: ContractSubject, target: LocalTarget, release: Release) -> float:
    """Return after how many seconds the replica serves the release; raises where it says that it cannot."""
    begin = time.monotonic()
    told = ""
    while (seconds := time.monotonic() - begin) < contract.subject.settings.timeout:
        target.check_alive()
        beat = target.heartbeat()
        if beat and beat.failed:
            raise ServerFailed(
                f"The server cannot serve the adapter: {beat.failed.error}",
                next_step="see the message; the model level passed, so compare the two",
            )
        if beat and beat.phase == "ready" and beat.release == release.id:
            return seconds
        reason = beat.phase if beat else "starting"
        if reason != told:
            contract.progress.note(f"the server is {reason}")
            told = reason
        contract.progress.sleep(0.1)
    raise NotReady(
        f"The server was not ready within {contract.subject.settings.timeout:g} s: it is {told}.",
        next_step="give a larger timeout, or see the log",
        reason=told,
    )


def _evidence(items: list[Item]) -> dict[str, object]:
    return {"points": {item.name: ("ok: " if item.fine else "WRONG: ") + item.said for item in items}}
