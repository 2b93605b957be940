"""The contract level: the real server serves the adapter, and every contract check runs."""

from __future__ import annotations

import psutil
import pytest

from nbtoolkit import SmokeReport, SmokeSettings, Workspace, smoke_test
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.check import SmokeContext
from nbtoolkit.smoke.contract_level import ContractContext, contract
from tests.support.recording_progress import RecordingProgress
from tests.support.tiny_models import tiny_adapter, tiny_base


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("smoke-contract")
    (root / "infra").mkdir()
    tiny_base(root / "base")
    tiny_adapter(root / "adapter", root / "base", alpha=8)
    return Workspace(root)


@pytest.fixture(scope="module")
def settings() -> SmokeSettings:
    return SmokeSettings(adapter="adapter", base="base", norm_warn=10)


@pytest.fixture(scope="module")
def report(workspace: Workspace, settings: SmokeSettings) -> SmokeReport:
    return smoke_test(settings, workspace=workspace)


def test_good_adapter_is_green_with_every_check_as_evidence(report: SmokeReport) -> None:
    assert report.green, str(report)
    points = next(one for one in report.checks if one.id == "G7").evidence["points"]
    assert list(points) == [
        "health",
        "models",
        "fingerprint",
        "non-stream",
        "stream",
        "history",
        "unknown model",
        "no key",
    ]
    assert all(detail.startswith("ok: ") for detail in points.values())
    assert "proven: 16 of 16" in points["fingerprint"]
    assert str(report).startswith("Smoke test green: adapter adapter on base")


def test_second_run_reuses_the_green_report(
    report: SmokeReport, workspace: Workspace, settings: SmokeSettings
) -> None:
    progress = RecordingProgress()
    assert smoke_test(settings, workspace=workspace, progress=progress) == report
    assert any("taken from the green report" in line for line in progress.lines)
    assert len(list(workspace.reports.iterdir())) == 1


def test_other_settings_are_not_reused(report: SmokeReport, workspace: Workspace) -> None:
    settings = SmokeSettings(adapter="adapter", base="base", levels=("static",), norm_warn=5)
    assert smoke_test(settings, workspace=workspace) != report


def test_server_with_another_fingerprint_fails(report: SmokeReport, workspace: Workspace) -> None:
    assert report.fingerprint
    swapped = report.fingerprint.model_copy(
        update={
            "probes": tuple(
                probe.model_copy(update={"base": probe.adapter, "adapter": probe.base})
                for probe in report.fingerprint.probes
            )
        }
    )
    settings = SmokeSettings(adapter="adapter", base="base", timeout=120)
    context = SmokeContext(workspace.path("adapter"), Base.read(workspace.path("base")), settings)
    partial = report.model_copy(update={"fingerprint": swapped})
    outcome = contract.run(ContractContext(context, swapped, partial, workspace, Progress()))
    assert outcome.verdict == "fail"
    assert "is not what answers" in outcome.summary
    assert "0 of 16 contexts" in outcome.summary
    assert outcome.remedy


def test_no_process_and_no_file_remains(report: SmokeReport, workspace: Workspace) -> None:
    assert report.green
    children = psutil.Process().children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    assert [child for child in alive if "nbtoolkit-smoke-" in " ".join(child.cmdline())] == []
    assert not (workspace.root / ".nbtoolkit" / "local").exists()
