"""G7, the contract level: start the real server on this machine and check what clients rely on."""

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
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext, check
from nbtoolkit.smoke.contract_checks import ADAPTER, ContractItem, contract_checks
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.workspace import Workspace

_PORT = 7960
"""The first port to try; not the port of a deployed server."""


@dataclass(frozen=True)
class ContractContext:
    """An adapter that passed the model level; ``report`` is its report until then, with the fingerprint."""

    smoke: SmokeContext
    fingerprint: Fingerprint
    report: SmokeReport
    workspace: Workspace
    progress: Progress


@check("G7", "contract", "contract")
def contract(context: ContractContext) -> CheckOutcome:
    """Serve the adapter from a temporary share and run every contract check."""
    items: list[ContractItem] = []
    with tempfile.TemporaryDirectory(prefix="nbtoolkit-smoke-") as folder:
        target = LocalTarget(context.workspace, Path(folder) / "target", keep=False, port=_PORT)
        try:
            release = _start_server(context, target, Path(folder))
            seconds = _wait_ready(context, target, release)
            for one in contract_checks(target.endpoint(), release, context.fingerprint):
                context.progress.phase(f"Smoke test: checking the server's contract: {one.name}")
                items.append(one.run())
        except (ServerFailed, NotReady, RequestRefused) as error:
            log = list(target.logs(tail=40))
            causes = [line for line in log if "Error" in line]
            cause = f" {causes[-1].strip()}" if causes and len(error.message.splitlines()) > 1 else ""
            return CheckOutcome(
                "fail",
                f"the server does not serve this adapter: {error.message.splitlines()[0]}{cause}",
                {**_evidence(items), "error": error.message, "log": log},
                "see the log lines in this check's evidence: report.checks[-1].evidence['log']",
            )
        finally:
            target.destroy()
    failed = [item for item in items if not item.passed]
    evidence = {**_evidence(items), "seconds_to_ready": round(seconds, 2)}
    if failed:
        return CheckOutcome(
            "fail",
            "; ".join(f"{item.name}: {item.detail}" for item in failed),
            evidence,
            "the server breaks its contract with this model: report it with this page",
        )
    return CheckOutcome(
        "pass", f"all {len(items)} points of the contract hold, ready in {seconds:.1f} s", evidence
    )


def _start_server(context: ContractContext, target: LocalTarget, folder: Path) -> Release:
    """Publish a release of this adapter on the target's share and start its server."""
    smoke, settings = context.smoke, context.smoke.settings
    context.progress.phase("Smoke test: starting the real server")
    report = folder / "report.json"
    report.write_bytes(context.report.content)
    code = publisher.serving_folder()
    release = build_release(
        smoke.base,
        str(smoke.base.path),
        {ADAPTER: smoke.adapter},
        EngineSettings(kind=settings.engine, dtype=settings.dtype, quantization=settings.quantization),
        publisher.code_sha256(code),
        reports={ADAPTER: context.report.sha256},
    )
    target.provision(context.progress)
    publisher.stage_release(
        target.share, release, {ADAPTER: smoke.adapter}, code, {ADAPTER: report}, context.progress
    )
    by = publisher.publisher_name(context.workspace.root)
    publisher.publish_release(target.share, release.id, expected=0, by=by)
    target.activate(release, restart=False, progress=context.progress)
    return release


def _wait_ready(context: ContractContext, target: LocalTarget, release: Release) -> float:
    """Wait until the replica serves the release and return the seconds; raises if it reports a failure."""
    begin = time.monotonic()
    timeout, phase = context.smoke.settings.timeout, ""

    def is_ready() -> bool:
        nonlocal phase
        target.check_alive()
        heartbeat = target.heartbeat()
        if heartbeat and heartbeat.failed:
            raise ServerFailed(
                f"The server cannot serve the adapter: {heartbeat.failed.error}",
                next_step="see the message; the model level passed, so compare the two",
            )
        if heartbeat and heartbeat.phase == "ready" and heartbeat.release == release.id:
            return True
        now = heartbeat.phase if heartbeat else "starting"
        if now != phase:
            context.progress.note(f"the server is {now}")
            phase = now
        return False

    if not context.progress.wait_until(is_ready, timeout=timeout, interval=0.1):
        raise NotReady(
            f"The server was not ready within {timeout:g} s: it is {phase}.",
            next_step="give a larger timeout, or see the log",
            reason=phase,
        )
    return time.monotonic() - begin


def _evidence(items: list[ContractItem]) -> dict[str, object]:
    return {"points": {item.name: ("ok: " if item.passed else "WRONG: ") + item.detail for item in items}}
