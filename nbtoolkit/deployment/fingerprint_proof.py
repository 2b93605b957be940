"""Prove over the public endpoint which adapters are served."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TypeVar

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NbtoolkitError, NotInStore, NotReady, RequestRefused
from nbtoolkit.filestore import FileStore
from nbtoolkit.progress import Progress
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.fingerprint import Fingerprint, Verdict
from nbtoolkit.serving.release import Release
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.utils.threads import start_daemon

T = TypeVar("T")

BUSY_ATTEMPTS = 20
BUSY = (429, 502, 503, 504)
"""Statuses of a full queue, and of an ingress while replicas start or end."""
BROKEN_ATTEMPTS = 3


@dataclass(frozen=True)
class Proof:
    """The verdicts of replaying each adapter's fingerprint; true if all are proven.

    ``not_proven`` maps the names of adapters, or of servers, without a verdict to the reason.
    """

    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    not_proven: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return bool(self.verdicts) and not self.not_proven and all(self.verdicts.values())

    @property
    def refuted(self) -> dict[str, Verdict]:
        """The adapters under whose name, or the base's name, something else answers."""
        return {name: verdict for name, verdict in self.verdicts.items() if verdict.refuted}

    def __str__(self) -> str:
        lines = [f"{name}: {verdict}" for name, verdict in self.verdicts.items()]
        lines += [f"{name}: not proven: {reason}" for name, reason in self.not_proven.items()]
        return "\n".join(lines) or "nothing to prove"

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{escape(str(self))}</pre>'


def read_fingerprints(store: FileStore, release: Release) -> dict[str, Fingerprint]:
    """Return the fingerprints in the smoke reports that a release names, by adapter name."""
    reports = read_reports(store, release)
    return {name: report.fingerprint for name, report in reports.items() if report.fingerprint}


def read_reports(store: FileStore, release: Release) -> dict[str, SmokeReport]:
    """Return the smoke reports that a release names, by adapter name; without changed and unreadable ones."""
    found: dict[str, SmokeReport] = {}
    for name, sha256 in release.reports.items():
        try:
            content = store.read(share_layout.report_path(sha256))
            report = SmokeReport.model_validate_json(content)
        except (NotInStore, ValueError):  # deleted, or of another version: the proof reports it as not proven
            continue
        if hashlib.sha256(content).hexdigest() == sha256:
            found[name] = report
    return found


class PreviousAnswers:
    """Replay the new adapters' contexts on the adapters that a hot swap is about to replace.

    The requests run in a daemon thread during the deploy. The server reports which adapter answered; late
    answers of the new adapter are dropped.
    """

    def __init__(
        self, endpoint: Endpoint, old: Release, new: Release, prints: Mapping[str, Fingerprint]
    ) -> None:
        self._answers: dict[str, list[dict[int, float]]] = {}
        self._endpoint = endpoint
        self._work = [
            (served, prints[served.name])
            for served in old.adapters
            if (now := new.adapter(served.name)) and now.sha256 != served.sha256 and served.name in prints
        ]
        self._done = start_daemon(self._replay_all, name="previous-answers")

    def get(self, timeout: float = 10) -> Mapping[str, list[dict[int, float]]]:
        """Return the answers by adapter name, without adapters that did not answer in time."""
        wait([self._done], timeout)
        return dict(self._answers)

    def _replay_all(self) -> None:
        for served, fingerprint in self._work:
            try:
                replay = self._endpoint.replay_named(served.name, fingerprint.shortened.contexts)
            except NbtoolkitError:
                continue  # the server is busy or stopping: only the base is the reference then
            if replay.by == served.sha256[:16]:
                self._answers[served.name] = replay.answers


def prove(
    endpoint: Endpoint,
    release: Release,
    prints: Mapping[str, Fingerprint],
    old: Mapping[str, list[dict[int, float]]],
    progress: Progress,
) -> Proof:
    """Replay every adapter's fingerprint, under its name and the base's, and return the verdicts."""
    base = release.base.name if release.base else None
    verdicts: dict[str, Verdict] = {}
    missing: dict[str, str] = {}
    for adapter in release.adapters:
        fingerprint = prints.get(adapter.name)
        if fingerprint is None:
            missing[adapter.name] = "it was deployed without a smoke report, so there is no fingerprint"
            continue
        verdicts[adapter.name] = retry_busy(
            progress, partial(endpoint.prove, fingerprint, adapter.name, base, old=old.get(adapter.name))
        )
    return Proof(verdicts, missing)


def retry_busy(progress: Progress, request: Callable[[], T]) -> T:
    """Return the result of a request; retries a full queue and a few broken connections."""
    broken = 0
    for attempt in range(BUSY_ATTEMPTS):
        progress.check()
        try:
            return request()
        except NotReady:
            broken += 1
            if broken == BROKEN_ATTEMPTS:
                raise
            progress.sleep(broken)
        except RequestRefused as error:
            if error.status not in BUSY or attempt == BUSY_ATTEMPTS - 1:
                raise
            progress.sleep(error.retry_after or 0.5)
    raise AssertionError("the last attempt returns or raises")
