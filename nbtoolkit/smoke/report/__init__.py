"""The smoke report: every check with its evidence, for one adapter on one base."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import BrokenFile, SmokeTestFailed
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.settings import Settings
from nbtoolkit.smoke.check import Check, Verdict
from nbtoolkit.smoke.report.comparison import ReportComparison, figure_changes, verdict_changes
from nbtoolkit.smoke.report.page import report_page
from nbtoolkit.smoke.report.text import report_text
from nbtoolkit.smoke.settings import LEVELS, Level
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.workspace import Workspace

AnySettings = TypeVar("AnySettings", bound=Settings)

FORMAT = 2
"""The schema version of a report; another version is refused, and the adapter is tested again."""

OPTIONAL = frozenset({"A8", "G5", "G8"})
"""Checks that may be skipped in a green report: they need a GPU, golden prompts, or a quantized base."""


class SmokeReport(BaseModel):
    """Every check with its evidence, for one adapter hash on one base; ``print(report)`` shows a table.

    ``settings`` are the smoke settings that affect the result. ``dtype`` and ``device`` are those of the
    model level, None if it did not run. ``golden`` are the golden prompts, whose answers G5 has as evidence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = FORMAT
    created: datetime
    adapter: str
    adapter_sha256: str
    adapter_source: str | None = None
    """``org/name@commit`` of an adapter from the hub."""
    base: str
    base_sha256: str
    base_revision: str | None = None
    engine: str
    dtype: str | None = None
    quantization: str = "none"
    device: str | None = None
    levels: tuple[Level, ...]
    versions: dict[str, str]
    settings: dict[str, Any]
    checks: tuple[Check, ...]
    fingerprint: Fingerprint | None = None
    golden: tuple[GoldenPrompt, ...] = ()
    comparison: ReportComparison | None = None

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(one for one in self.checks if one.verdict == "fail")

    @property
    def warned(self) -> tuple[Check, ...]:
        """The checks with a warning."""
        return tuple(one for one in self.checks if one.verdict == "warn")

    @property
    def open(self) -> tuple[str, ...]:
        """Why the report is not sufficient for a deploy: levels not run, checks skipped or undecided."""
        reasons = [f"level {level} was not run" for level in LEVELS if level not in self.levels]
        settled = {one.id for one in self.checks if one.verdict in ("pass", "warn", "fail")}
        missing = {one.id: one for one in self.checks if one.id not in {*settled, *OPTIONAL}}
        for id, one in sorted(missing.items()):
            reasons.append(f"{id} is undecided" if one.verdict == "undecided" else f"{id} was {one.summary}")
        return tuple(reasons)

    @property
    def green(self) -> bool:
        """Whether every level ran, no check failed and none is undecided; warnings are green."""
        return not self.failed and not self.open

    @property
    def recommended_settings(self) -> dict[str, Any]:
        """Setting → value that the failed checks, and those with a warning, recommend."""
        changes: dict[str, Any] = {}
        for one in (*self.warned, *self.failed):
            changes |= one.recommended
        return changes

    def apply_to(self, settings: AnySettings) -> AnySettings:
        """Return smoke, deploy or provision settings with the recommended values that they have.

        >>> settings = report.apply_to(settings)
        """
        changes = {k: v for k, v in self.recommended_settings.items() if k in type(settings).model_fields}
        chosen = {name: getattr(settings, name) for name in settings.model_fields_set}
        return type(settings)(**{**chosen, **changes}) if changes else settings

    @property
    def content(self) -> bytes:
        """The canonical JSON of the report, which is saved, uploaded and hashed."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
        return text.encode()

    @property
    def sha256(self) -> str:
        """The hash of :attr:`content`; a release refers to the report by it."""
        return hashlib.sha256(self.content).hexdigest()

    def raise_for_failure(self) -> SmokeReport:
        """Return the report, or raise :class:`SmokeTestFailed` that names every failed check."""
        if not self.failed:
            return self
        lines = [f"{one.id} {one.title}: {one.summary}" for one in self.failed]
        remedies = list(dict.fromkeys(f"{one.id}: {one.remedy}" for one in self.failed if one.remedy))
        raise SmokeTestFailed(
            f"The smoke test of adapter {self.adapter} on {self.base} failed:\n  " + "\n  ".join(lines),
            next_step="; ".join(remedies) or "repair the adapter and run the smoke test again",
            report=self,
            checks=self.failed,
        )

    def save(self, workspace: Workspace) -> Path:
        """Write the report atomically to the workspace's reports and return its path."""
        path = workspace.reports / f"{self.adapter_sha256[:16]}-{self.created:%Y%m%dT%H%M%S.%fZ}.json"
        write_atomically(path, self.content)
        return path

    @classmethod
    def load(cls, path: Path) -> SmokeReport:
        """Read a saved report; raises :class:`BrokenFile` if it was changed or has another format."""
        content = path.read_bytes()
        next_step = "run the smoke test again; the file may be deleted"
        try:
            report = cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            location = ".".join(str(part) for part in first["loc"]) or "the file"
            problem = f"{path} is not a smoke report of this version: {location}: {first['msg']}"
            raise BrokenFile(problem, next_step=next_step, path=path) from error
        if report.content != content:
            problem = f"{path} was changed after the smoke test wrote it, so it proves nothing"
            raise BrokenFile(problem, next_step=next_step, path=path)
        return report

    def compared_with(self, previous: SmokeReport | None) -> SmokeReport:
        """Return this report with what changed since ``previous``, the report of another adapter."""
        if previous is None:
            return self
        comparison = ReportComparison(
            adapter=previous.adapter,
            adapter_sha256=previous.adapter_sha256,
            report_sha256=previous.sha256,
            created=previous.created,
            verdicts=verdict_changes(previous.checks, self.checks),
            figures=figure_changes(previous.checks, self.checks),
        )
        return self.model_copy(update={"comparison": comparison})

    def __str__(self) -> str:
        changes = self.comparison.lines if self.comparison else []
        return report_text(self._headline(), self._facts(), self.checks, changes)

    def __repr__(self) -> str:
        outcome = "green" if self.green else "not green"
        return f"<SmokeReport {self.adapter} on {self.base}: {outcome}, sha256 {self.sha256[:12]}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the whole table as a cell's result; ``repr`` stays one line for logs and errors."""
        printer.text(repr(self) if cycle else str(self))

    def _repr_html_(self) -> str:
        verdict: Verdict = "fail" if self.failed else "pass" if self.green else "undecided"
        return report_page(verdict, self._headline(), self._facts(), self.checks, self.comparison)

    def _headline(self) -> str:
        subject = f"adapter {self.adapter} on {self.base}"
        if self.failed:
            return f"Smoke test FAILED ({_ids(self.failed)}): {subject}"
        if self.open:
            return f"Smoke test not complete ({'; '.join(self.open)}): {subject}"
        return f"Smoke test green{f' with warnings ({_ids(self.warned)})' if self.warned else ''}: {subject}"

    def _facts(self) -> dict[str, str]:
        facts = {
            "adapter": f"{self.adapter_sha256[:16]}…" if self.adapter_sha256 else "unreadable",
            **({"hub": self.adapter_source} if self.adapter_source else {}),
            "base": f"{self.base_sha256[:16]}…",
            "engine": f"{self.engine}, dtype {self.dtype or 'open'}, quantization {self.quantization}",
            "device": self.device or "the model level did not run",
            "versions": ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items())),
            "report": f"{self.sha256[:16]}… of {self.created:%Y-%m-%d %H:%M:%S} UTC",
        }
        if one := self.fingerprint:
            facts["fingerprint"] = f"{len(one.probes)} contexts, noise {one.noise:.2g} nats"
        return facts


def newest_report(workspace: Workspace, adapter_sha256: str, base_sha256: str) -> SmokeReport | None:
    """Return the newest report for these bytes on this base, green or not; None if there is none.

    Raises :class:`BrokenFile` if the newest report of this adapter cannot be read: an older report could
    have another verdict.
    """
    for path in sorted(workspace.reports.glob(f"{adapter_sha256[:16]}-*.json"), reverse=True):
        report = SmokeReport.load(path)
        if (report.adapter_sha256, report.base_sha256) == (adapter_sha256, base_sha256):
            return report
    return None


def previous_report(workspace: Workspace, adapter_sha256: str, base_sha256: str) -> SmokeReport | None:
    """Return the newest report of another adapter on this base; unreadable reports are left out."""
    return next(previous_reports(workspace, adapter_sha256, base_sha256), None)


def previous_reports(workspace: Workspace, adapter_sha256: str, base_sha256: str) -> Iterator[SmokeReport]:
    """Yield the reports of other adapters on this base, the newest first, without unreadable ones."""
    other = [one for one in workspace.reports.glob("*.json") if not one.name.startswith(adapter_sha256[:16])]
    for path in sorted(other, key=lambda one: one.name.partition("-")[2], reverse=True):
        try:
            report = SmokeReport.load(path)
        except (BrokenFile, OSError):
            continue
        if report.base_sha256 == base_sha256:
            yield report


def _ids(checks: tuple[Check, ...]) -> str:
    return ", ".join(dict.fromkeys(one.id for one in checks))
