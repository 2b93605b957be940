"""The smoke report: every check with its evidence, for one adapter on one base."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.errors import BrokenFile, SmokeTestFailed
from nbtoolkit.serving.fingerprint import Fingerprint
from nbtoolkit.smoke.check import LEVELS, Check, Level
from nbtoolkit.workspace import Workspace


class SmokeReport(BaseModel):
    """Every check with its evidence, for one adapter hash on one base; ``print(report)`` shows a table.

    ``settings`` are the smoke settings that decide what the checks see. ``dtype`` and ``device`` are those
    of the model level, None where it did not run.
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
        """The checks that warn."""
        return tuple(one for one in self.checks if one.verdict == "warn")

    @property
    def open(self) -> tuple[str, ...]:
        """Why the report proves less than a deploy needs: levels not run, checks never settled."""
        reasons = [f"level {level} was not run" for level in LEVELS if level not in self.levels]
        settled = {one.id for one in self.checks if one.verdict in ("pass", "warn", "fail")}
        undecided = {one.id for one in self.checks if one.verdict == "undecided"} - settled
        return (*reasons, *(f"{id} is undecided" for id in sorted(undecided)))

    @property
    def green(self) -> bool:
        """Whether every level ran, nothing failed and nothing stayed undecided; warnings are green."""
        return not self.failed and not self.open

    @property
    def content(self) -> bytes:
        """The canonical JSON of the report: what is saved, sent and hashed."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, allow_nan=False)
        return text.encode()

    @property
    def sha256(self) -> str:
        """The hash of :attr:`content`, which names the report in a release."""
        return hashlib.sha256(self.content).hexdigest()

    def raise_for_failure(self) -> SmokeReport:
        """Return the report, or raise :class:`SmokeTestFailed` naming every failing check."""
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
        """Write the report among the workspace's reports, atomically, and return its path."""
        name = f"{self.adapter_sha256[:16]}-{self.created:%Y%m%dT%H%M%S.%fZ}.json"
        folder = workspace.reports
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".report-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self.content)
            Path(temporary).replace(folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return folder / name

    @classmethod
    def load(cls, path: Path) -> SmokeReport:
        """Read a saved report; raises :class:`BrokenFile` where it was damaged or is of another format."""
        content = path.read_bytes()
        try:
            report = cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise BrokenFile(
                f"{path} is no smoke report of this version: {where}: {first['msg']}",
                next_step="run the smoke test again; the file may be deleted",
                path=path,
            ) from error
        if report.content != content:
            raise BrokenFile(
                f"{path} was changed after the smoke test wrote it, so it proves nothing",
                next_step="run the smoke test again; the file may be deleted",
                path=path,
            )
        return report

    def __str__(self) -> str:
        from nbtoolkit.smoke.report_rendering import plain

        return plain(self)

    def __repr__(self) -> str:
        outcome = "green" if self.green else "not green"
        return f"<SmokeReport {self.adapter} on {self.base}: {outcome}, sha256 {self.sha256[:12]}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show a notebook's plain text the whole table; ``repr`` stays one line for logs and errors."""
        printer.text(repr(self) if cycle else str(self))

    def _repr_html_(self) -> str:
        from nbtoolkit.smoke.report_rendering import html

        return html(self)


def newest(workspace: Workspace, adapter_sha256: str, base_sha256: str) -> SmokeReport | None:
    """Return the newest report for these bytes on this base, green or not; None where there is none.

    Raises :class:`BrokenFile` where the newest report of this adapter cannot be read, rather than pass
    over it to an older verdict.
    """
    for path in sorted(workspace.reports.glob(f"{adapter_sha256[:16]}-*.json"), reverse=True):
        report = SmokeReport.load(path)
        if (report.adapter_sha256, report.base_sha256) == (adapter_sha256, base_sha256):
            return report
    return None
