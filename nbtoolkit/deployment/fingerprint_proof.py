"""Prove over the public endpoint which adapters answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NbtoolkitError, NotInStore, NotReady, RequestRefused
from nbtoolkit.filestore import FileStore
from nbtoolkit.progress import Progress
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.fingerprint import Fingerprint, Verdict
from nbtoolkit.serving.release import Release
from nbtoolkit.smoke.report import SmokeReport

BUSY_ATTEMPTS = 20
BUSY = (429, 502, 503, 504)
"""Answers of a full queue, and of an ingress whose replica has just gone or come."""
BROKEN_ATTEMPTS = 3


@dataclass(frozen=True)
class Proof:
    """What the replay of each adapter's fingerprint showed; true where all are proven.

    ``not_proven`` maps the names of adapters, or of servers, that could not be asked to the reason.
    """

    verdicts: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    not_proven: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return bool(self.verdicts) and not self.not_proven and all(self.verdicts.values())

    @property
    def refuted(self) -> dict[str, Verdict]:
        """The adapters under whose name something else answers."""
        return {name: verdict for name, verdict in self.verdicts.items() if verdict.outcome == "other"}

    def __str__(self) -> str:
        lines = [f"{name}: {verdict}" for name, verdict in self.verdicts.items()]
        lines += [f"{name}: not proven: {reason}" for name, reason in self.not_proven.items()]
        return "\n".join(lines) or "nothing to prove"

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{escape(str(self))}</pre>'


def read_fingerprints(store: FileStore, release: Release) -> dict[str, Fingerprint]:
    """Return the fingerprints in the smoke reports that a release names, by adapter name."""
    found: dict[str, Fingerprint] = {}
    for name, sha256 in release.reports.items():
        try:
            report = SmokeReport.model_validate_json(store.read(share_layout.report_path(sha256)))
        except (NotInStore, ValueError):  # deleted, or of another version: then it is said to be not proven
            continue
        if report.fingerprint:
            found[name] = report.fingerprint
    return found


class PreviousAnswers:
    """Ask the adapters that are about to be replaced what they say to the new ones' contexts.

    The questions run beside the deploy's own steps. Answers that came too late, from the new adapter, are
    told apart by the server's word for who answered, and dropped.
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
        self._thread = threading.Thread(target=self._ask, name="nbtoolkit-old-answers", daemon=True)
        if self._work:
            self._thread.start()

    def get(self, timeout: float = 10) -> Mapping[str, list[dict[int, float]]]:
        """Return the answers by adapter name; an adapter that did not answer in time is left out."""
        if self._work:
            self._thread.join(timeout)
        return dict(self._answers)

    def _ask(self) -> None:
        for served, fingerprint in self._work:
            try:
                replay = self._endpoint.replay_named(served.name, fingerprint.shortened.contexts)
            except NbtoolkitError:
                continue  # a server that is busy or going down: the base alone is the reference then
            if replay.by == served.sha256[:16]:
                self._answers[served.name] = replay.answers


def prove(
    endpoint: Endpoint,
    release: Release,
    prints: Mapping[str, Fingerprint],
    old: Mapping[str, list[dict[int, float]]],
    progress: Progress,
) -> Proof:
    """Replay every adapter's fingerprint over the public endpoint and judge the answers."""
    verdicts: dict[str, Verdict] = {}
    missing: dict[str, str] = {}
    for adapter in release.adapters:
        fingerprint = prints.get(adapter.name)
        if fingerprint is None:
            missing[adapter.name] = "it was deployed without a smoke report, so there is no fingerprint"
            continue
        verdicts[adapter.name] = _prove_one(
            endpoint, fingerprint, adapter.name, old.get(adapter.name), progress
        )
    return Proof(verdicts, missing)


def _prove_one(
    endpoint: Endpoint,
    fingerprint: Fingerprint,
    name: str,
    old: list[dict[int, float]] | None,
    progress: Progress,
) -> Verdict:
    """Ask as any client does; a full queue is waited for, and a line that breaks now and then is borne."""
    broken = 0
    for attempt in range(BUSY_ATTEMPTS):
        progress.check()
        try:
            return endpoint.prove(fingerprint, name, old=old)
        except NotReady:
            broken += 1
            if broken == BROKEN_ATTEMPTS:
                raise
            progress.sleep(broken)
        except RequestRefused as error:
            status = getattr(error, "status", None)
            if status not in BUSY or attempt == BUSY_ATTEMPTS - 1:
                raise
            progress.sleep(getattr(error, "retry_after", None) or 0.5)
    raise AssertionError("the last attempt returns or raises")
