"""Prove a live endpoint at any time: fingerprints on every replica, and golden prompts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import Field

from nbtoolkit.deployment.fingerprint_proof import read_reports
from nbtoolkit.deployment.proof_requests import GoldenResult, ProofCost, ProofRequests
from nbtoolkit.deployment.readiness import raise_if_superseded
from nbtoolkit.deployment.rollout import NOT_OURS
from nbtoolkit.errors import InvalidSettings, NotProven, NotReady
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases import publisher
from nbtoolkit.serving.fingerprint import Verdict, judge
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.settings import Settings
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.target import Target
from nbtoolkit.target_factory import TargetName, resolve_target
from nbtoolkit.utils.display import FactTable
from nbtoolkit.utils.threads import run_cancellable

ProofState = Literal["proven", "refuted", "not proven", "asleep"]

_UNTESTED = "it was deployed without a smoke report, so there is no fingerprint"
_UNREADABLE = "its smoke report on the share is deleted, changed, of another version, or has no fingerprint"
_ASLEEP = "no replica runs, and a request would start one"


class ProveSettings(Settings):
    """The endpoint to prove, and whether a sleeping app may be woken for it."""

    target: TargetName = Field(default="azure", description="azure, or local: this machine")
    wake: bool = Field(
        default=False, description="if no replica runs, start one; its GPU is billed until it sleeps again"
    )
    timeout: float = Field(default=1800, gt=0, description="seconds until a starting server must be ready")


@dataclass(frozen=True, repr=False)
class LiveProof(FactTable):
    """The proof of a live endpoint; true only if every adapter of the active release is proven.

    ``state`` is ``refuted`` if answers contradict the release or fail a golden prompt, ``not proven`` if they
    could not be compared, and ``asleep`` if nothing runs. ``verdicts`` are by adapter, of the replica with
    the worst one; ``not_proven`` maps adapters, replicas or servers without a verdict to the reason.
    ``golden`` are the results of the golden prompts by adapter, ``replicas`` what each running replica
    answered.
    """

    target: str
    release: Release
    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    not_proven: Mapping[str, str] = field(default_factory=dict[str, str])
    golden: Mapping[str, GoldenResult] = field(default_factory=dict[str, GoldenResult])
    replicas: Mapping[str, str] = field(default_factory=dict[str, str])
    asleep: bool = False
    cost: ProofCost = field(default_factory=ProofCost)

    @property
    def state(self) -> ProofState:
        """The outcome in a word."""
        if self.asleep:
            return "asleep"
        if any(verdict.refuted for verdict in self.verdicts.values()):
            return "refuted"
        if not all(self.golden.values()):
            return "refuted"
        proven = bool(self.verdicts) and not self.not_proven and all(self.verdicts.values())
        return "proven" if proven else "not proven"

    def __bool__(self) -> bool:
        return self.state == "proven"

    def raise_for_failure(self) -> LiveProof:
        """Return the proof, or raise :class:`NotProven` with its lines if the state is not ``proven``."""
        if self:
            return self
        next_steps = {
            "asleep": "prove(..., wake=True) starts a replica, which is billed, and proves it",
            "refuted": "deploy() this release again, or rollback(); logs() show what the server loaded",
            "not proven": "see the reason; without a fingerprint: smoke_test(), then deploy() again",
        }
        raise NotProven(
            f"{self.headline}\n{self}", next_step=next_steps[self.state], state=self.state, proof=self
        )

    @property
    def headline(self) -> str:
        """The outcome as one sentence."""
        text = "asleep, not proven" if self.asleep else self.state
        return f"Release {self.release.id} on {self.target}: {text}"

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table, as label and text."""
        release = self.release
        rows = [
            ("release", release.id),
            ("state", f"asleep, not proven: {_ASLEEP}" if self.asleep else self.state),
        ]
        rows += [(f"adapter {name}", str(verdict)) for name, verdict in self.verdicts.items()]
        rows += [(name, f"not proven: {reason}") for name, reason in self.not_proven.items()]
        rows += [(f"golden {name}", str(result)) for name, result in self.golden.items()]
        rows += [(f"replica {name}", text) for name, text in self.replicas.items()]
        if release.override_reason:
            rows.append(("override", f"deployed without a green smoke report: {release.override_reason}"))
        return [*rows, ("cost", str(self.cost))]


def prove(
    target: Target | TargetName | None = None,
    *,
    wake: bool = False,
    timeout: float = 1800,
    progress: Progress | None = None,
) -> LiveProof:
    """Prove that a live endpoint serves exactly the active release, and return the proof.

    Replays the fingerprint of every adapter under its public name and under the base's name, on every replica
    that the ingress reaches, and asks the golden prompts that have a ``must``. Needs only the workspace:
    release, fingerprints and golden prompts are read from the share. Nothing is written. ``target`` defaults
    to this machine; ``timeout`` is in seconds.

    Costs two small requests per adapter and replica, about a thousand tokens each, one request per golden
    prompt, and Azure's management requests. A sleeping app is woken only with ``wake``, which starts a GPU
    replica; otherwise the state is ``asleep``. A refuted release is returned, not raised: see
    :meth:`LiveProof.raise_for_failure`. Raises :class:`InvalidSettings` if nothing was deployed,
    :class:`NotReady` if nothing answers, :class:`ReleaseChanged` if a deploy published meanwhile, and
    :class:`Cancelled`.

    >>> prove("azure").raise_for_failure()
    """
    start = time.monotonic()
    progress = progress or SILENT()
    target = resolve_target(target)
    progress.phase("Reading the active release")
    share = target.share
    pointer = run_cancellable(progress, lambda: publisher.active_pointer(share))
    if pointer is None:
        raise InvalidSettings(f"Nothing was deployed to {target}.", next_step="deploy() first")
    release = run_cancellable(progress, lambda: publisher.read_release(share, pointer.release))
    proof = LiveProof(str(target), release)
    if release.code.kind == "own":
        return replace(proof, not_proven={"your own server": NOT_OURS})
    status = run_cancellable(progress, target.status)
    if status.state in ("stopped", "failed"):
        raise NotReady(
            f"Nothing can be proven on {target}: {status.summary}.",
            next_step="deploy() or rollback() starts a server; status() and logs() show why none serves",
            reason=status.summary,
        )
    if status.state == "asleep" and not wake:
        return replace(proof, asleep=True, cost=ProofCost(seconds=time.monotonic() - start))
    endpoint = run_cancellable(progress, target.endpoint)
    woke = status.state == "asleep"
    if woke:
        progress.note(f"{_ASLEEP}; it is billed until it sleeps again")
    if status.state in ("asleep", "starting"):
        endpoint.wait(timeout, progress)
    reports = run_cancellable(progress, lambda: read_reports(share, release))
    names = run_cancellable(progress, lambda: target.replicas(refresh=True))
    requests = ProofRequests(endpoint, names, progress)
    dtype = run_cancellable(progress, endpoint.health).dtype
    verdicts, missing, replicas = _prove_release(release, reports, requests, dtype)
    chat = release.tokenizer is None or release.tokenizer.chat_template is not None
    golden = {
        name: requests.ask_golden(name, report.golden, chat=chat)
        for name, report in reports.items()
        if any(prompt.must for prompt in report.golden)
    }
    beats = run_cancellable(progress, lambda: {name: target.heartbeat(name) for name in names})
    wrong = {f"replica {n}": text for n, beat in beats.items() if (text := _contradiction(beat, release))}
    proof = replace(
        proof,
        verdicts=verdicts,
        not_proven={**missing, **wrong},
        golden=golden,
        replicas=replicas,
        cost=replace(requests.cost, seconds=time.monotonic() - start, woke=woke),
    )
    if not proof:
        run_cancellable(progress, lambda: raise_if_superseded(target, pointer))
    return proof


def _prove_release(
    release: Release, reports: Mapping[str, SmokeReport], requests: ProofRequests, dtype: str | None
) -> tuple[dict[str, Verdict], dict[str, str], dict[str, str]]:
    """Return the worst verdict by adapter, the reasons without a verdict, and a text by replica."""
    assert release.base is not None
    verdicts: dict[str, Verdict] = {}
    missing: dict[str, str] = {}
    problems: dict[str, list[str]] = {}
    for adapter in release.adapters:
        report = reports.get(adapter.name)
        fingerprint = report and report.fingerprint
        if fingerprint is None:
            missing[adapter.name] = _UNREADABLE if adapter.name in release.reports else _UNTESTED
            continue
        answers = requests.replay(adapter.name, fingerprint)
        base = requests.replay(release.base.name, fingerprint)
        for replica in sorted(answers.keys() & base.keys()):
            verdict = judge(fingerprint, answers[replica], base[replica], dtype=dtype)
            problems.setdefault(replica, []).extend([] if verdict else [f"{adapter.name}: {verdict}"])
            if verdict.refuted or verdicts.get(adapter.name, True):
                verdicts[adapter.name] = verdict
        if adapter.name not in verdicts:
            missing[adapter.name] = "no replica answered under both its name and the base's"
    texts = {
        name: "; ".join(problems[name]) or "it answered, and all its adapters are proven"
        if name in problems
        else "no request reached it; its heartbeat is compared only"
        for name in sorted({*requests.replicas, *problems})
    }
    return verdicts, missing, texts


def _contradiction(beat: Heartbeat | None, release: Release) -> str:
    """Return why a replica does not serve a release by its own heartbeat; empty if it does or is starting."""
    if beat is None or beat.phase != "ready":
        return ""
    if beat.release != release.id:
        return f"it serves {beat.release}"
    if dict(beat.adapters) != {adapter.name: adapter.sha256 for adapter in release.adapters}:
        return "it reports other adapters than the release"
    return ""
