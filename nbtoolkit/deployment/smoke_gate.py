"""Require a green smoke report for exactly these files, or a reason to override."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from nbtoolkit.deployment.settings import DeploySettings
from nbtoolkit.errors import BrokenFile, SmokeTestFailed
from nbtoolkit.golden.golden_file import GOLDEN_FILE, golden_sha256, read_golden
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.report import SmokeReport, newest_report
from nbtoolkit.workspace import Workspace


@dataclass(frozen=True)
class GateResult:
    """The smoke reports by public name, and the override reason if one was needed."""

    reports: Mapping[str, SmokeReport]
    files: Mapping[str, Path]
    override_reason: str | None


def check_smoke_reports(
    settings: DeploySettings,
    workspace: Workspace,
    base: Base,
    adapters: Mapping[str, Adapter],
    progress: Progress,
) -> GateResult:
    """Return the smoke reports of all adapters.

    Raises :class:`SmokeTestFailed` if an adapter's newest report is missing, not green, of another version or
    of other engine settings, unless the settings have an ``override_reason``; the message names the line to
    run for each adapter.
    """
    reports: dict[str, SmokeReport] = {}
    problems: dict[str, str] = {}
    for name, adapter in adapters.items():
        progress.check()
        try:
            report = _report(settings, workspace, base, adapter)
        except BrokenFile as error:
            problems[name] = error.message
            continue
        problem = _problem(settings, report, base, adapter)
        if problem:
            problems[name] = problem
        if report and (not problem or (report.fingerprint and not _other_settings(settings, report))):
            reports[name] = report  # with other settings the answers differ from the fingerprint
            if note := _golden_note(report, adapter):
                progress.note(f"{name}: {note}; to ask them, run {_lines_to_run(settings, [name])}")
    if problems and settings.override_reason is None:
        lines = [f"{name}: {problem}" for name, problem in problems.items()]
        raise SmokeTestFailed(
            "The deploy needs a green smoke report for exactly these bytes.\n  " + "\n  ".join(lines),
            next_step=f"run {_lines_to_run(settings, problems)}, or give override_reason",
            problems=tuple(lines),
        )
    if problems:
        progress.note(f"deployed without a green smoke report, because: {settings.override_reason}")
    files = {name: _file(settings, workspace, report) for name, report in reports.items()}
    return GateResult(reports, files, settings.override_reason if problems else None)


def _lines_to_run(settings: DeploySettings, names: Collection[str]) -> str:
    """Return the calls that test the named adapters with the settings of this deploy."""
    lines: list[str] = []
    for name, one in zip(settings.adapters, settings.smoke_settings(), strict=True):
        if name in names:
            values = one.model_dump(
                include={"adapter", "base", "dtype", "quantization"}, exclude_defaults=True
            )
            arguments = ", ".join(f"{field}={value!r}" for field, value in values.items())
            lines.append(f"smoke_test(SmokeSettings({arguments})).raise_for_failure()")
    return "; ".join(lines)


def _report(
    settings: DeploySettings, workspace: Workspace, base: Base, adapter: Adapter
) -> SmokeReport | None:
    if settings.report is None:
        return newest_report(workspace, adapter.sha256, base.sha256)
    path = workspace.path(settings.report)
    if not path.is_file():
        raise SmokeTestFailed(
            f"The smoke report {path} does not exist.",
            next_step="leave out `report` to take the newest, or correct the path",
        )
    return SmokeReport.load(path)


def _problem(
    settings: DeploySettings, report: SmokeReport | None, base: Base, adapter: Adapter
) -> str | None:
    if report is None:
        return f"there is no smoke report for sha256 {adapter.sha256[:16]}… on {base.name} ({adapter.path})"
    if (report.adapter_sha256, report.base_sha256) != (adapter.sha256, base.sha256):
        return "the smoke report is about other files of the adapter or the base"
    if report.failed:
        return "failed " + "; ".join(f"{one.id} {one.title}: {one.summary}" for one in report.failed)
    if report.open:
        return "the smoke report is not complete: " + "; ".join(report.open)
    return _other_settings(settings, report)


def _golden_note(report: SmokeReport, adapter: Adapter) -> str:
    """Return what to know if the golden prompts next to an adapter are not those of its report."""
    path = adapter.path / GOLDEN_FILE
    try:
        same = not path.is_file() or golden_sha256(read_golden(path)) == report.settings.get("golden_sha256")
    except BrokenFile as error:
        return error.message
    return "" if same else f"the smoke test did not ask the golden prompts that are in {path} now"


def _other_settings(settings: DeploySettings, report: SmokeReport) -> str | None:
    """Return how the adapter was tested if it is to be served in another way."""
    wanted = {"engine": settings.engine.kind, "quantization": settings.quantization, "dtype": settings.dtype}
    tested = {
        "engine": report.engine,
        "quantization": report.quantization,
        "dtype": report.settings.get("dtype"),
    }
    for name, value in wanted.items():
        if tested[name] != value:
            return f"it was tested with {name} {tested[name]!r}, but is to be served with {value!r}"
    return None


def _file(settings: DeploySettings, workspace: Workspace, report: SmokeReport) -> Path:
    """Return the path of a report."""
    if settings.report is not None:
        return workspace.path(settings.report)
    for path in workspace.reports.glob(f"{report.adapter_sha256[:16]}-*.json"):
        if path.stat().st_size == len(report.content) and path.read_bytes() == report.content:
            return path
    return report.save(workspace)  # deleted since it was read
