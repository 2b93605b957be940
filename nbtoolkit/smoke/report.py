"""The smoke report: every check with its evidence, for one adapter on one base."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import BrokenFile, SmokeTestFailed
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.settings import LEVELS, Level
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.workspace import Workspace

_WIDTH = 100
_COLOURS = {
    "pass": "#1a7f37",
    "warn": "#9a6700",
    "fail": "#cf222e",
    "skipped": "#6e7781",
    "undecided": "#6e7781",
}


class SmokeReport(BaseModel):
    """Every check with its evidence, for one adapter hash on one base; ``print(report)`` shows a table.

    ``settings`` are the smoke settings that affect the result. ``dtype`` and ``device`` are those of the
    model level, None if it did not run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    created: datetime
    adapter: str
    adapter_sha256: str
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
        """Why the report is not sufficient for a deploy: levels not run, checks still undecided."""
        reasons = [f"level {level} was not run" for level in LEVELS if level not in self.levels]
        settled = {one.id for one in self.checks if one.verdict in ("pass", "warn", "fail")}
        undecided = {one.id for one in self.checks if one.verdict == "undecided"} - settled
        return (*reasons, *(f"{id} is undecided" for id in sorted(undecided)))

    @property
    def green(self) -> bool:
        """Whether every level ran, no check failed and none is undecided; warnings are green."""
        return not self.failed and not self.open

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

    def __str__(self) -> str:
        lines = [self._headline(), *(f"  {name:<11} {value}" for name, value in self._facts().items()), ""]
        for one in self.checks:
            head = f"{one.verdict.upper():<9} {one.id:<3} {one.level:<8} "
            space = " " * len(head)
            lines += wrap(f"{one.title}: {one.summary}", _WIDTH, initial_indent=head, subsequent_indent=space)
            if one.remedy and one.verdict in ("fail", "warn"):
                lines += wrap(f"→ {one.remedy}", _WIDTH, initial_indent=space, subsequent_indent=f"{space}  ")
        return "\n".join(lines)

    def __repr__(self) -> str:
        outcome = "green" if self.green else "not green"
        return f"<SmokeReport {self.adapter} on {self.base}: {outcome}, sha256 {self.sha256[:12]}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the whole table as a cell's result; ``repr`` stays one line for logs and errors."""
        printer.text(repr(self) if cycle else str(self))

    def _repr_html_(self) -> str:
        verdict = "fail" if self.failed else "pass" if self.green else "undecided"
        about = "".join(
            f'<tr><td style="text-align:left;padding-right:1em">{escape(name)}</td>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in self._facts().items()
        )
        return (
            f'<div><p style="color:{_COLOURS[verdict]};font-weight:bold">{escape(self._headline())}</p>'
            f'<table style="border-collapse:collapse">{"".join(map(_row, self.checks))}</table>'
            f"<details><summary>About this report</summary><table>{about}</table></details></div>"
        )

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


def _ids(checks: tuple[Check, ...]) -> str:
    return ", ".join(dict.fromkeys(one.id for one in checks))


def _row(one: Check) -> str:
    cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px'
    evidence = json.dumps(one.evidence, indent=1, ensure_ascii=False)
    remedy = (
        f'<div style="font-weight:bold">→ {escape(one.remedy)}</div>'
        if one.remedy and one.verdict in ("fail", "warn")
        else ""
    )
    details = (
        f"<details><summary>evidence, {one.seconds:.2f} s</summary>"
        f'<pre style="white-space:pre-wrap">{escape(evidence)}</pre></details>'
        if one.evidence
        else ""
    )
    return (
        f'<tr>{cell};color:{_COLOURS[one.verdict]};font-weight:bold">{escape(one.verdict)}</td>'
        f'{cell}">{escape(one.id)}</td>{cell}">{escape(one.level)}</td>{cell}">{escape(one.title)}</td>'
        f'{cell}">{escape(one.summary)}{remedy}{details}</td></tr>'
    )
