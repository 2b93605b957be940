"""Find the golden prompts of an adapter, and the previous adapter's answers to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nbtoolkit.golden.golden_file import GOLDEN_FILE, read_golden
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.smoke.golden_verdict import PreviousGoldenAnswers
from nbtoolkit.smoke.report import previous_reports
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.workspace import Workspace


def golden_prompts_of(
    settings: SmokeSettings, folder: Path, workspace: Workspace
) -> tuple[GoldenPrompt, ...]:
    """Return the golden prompts of an adapter's folder or of the settings; empty if there are none.

    Raises :class:`BrokenFile` with all defects of the file.
    """
    if settings.golden is not None:
        return read_golden(workspace.path(settings.golden))
    path = folder / GOLDEN_FILE
    return read_golden(path) if os.path.lexists(path) else ()


def previous_golden_answers(
    workspace: Workspace, adapter_sha256: str, base_sha256: str, golden: Sequence[GoldenPrompt]
) -> PreviousGoldenAnswers | None:
    """Return the answers of the newest other adapter with a green report to the same golden prompts."""
    for report in previous_reports(workspace, adapter_sha256, base_sha256):
        evidence = next((one.evidence for one in report.checks if one.id == "G5"), {})
        pairs = zip(report.golden, evidence.get("answers", ()), strict=False)
        known = {(one.messages, one.max_tokens): str(answer["adapter"]) for one, answer in pairs}
        same = [one for one in golden if (one.messages, one.max_tokens) in known]
        if report.green and same:
            answers = tuple(known[one.messages, one.max_tokens] for one in same)
            return PreviousGoldenAnswers(name=report.adapter, prompts=tuple(same), answers=answers)
    return None
