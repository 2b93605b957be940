"""The smoke report: when it is green, how it is rendered, saved and loaded."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbtoolkit import SmokeReport, SmokeSettings, Workspace
from nbtoolkit.errors import BrokenFile, InvalidSettings, SmokeTestFailed
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
from nbtoolkit.smoke.check import Check, Verdict
from nbtoolkit.smoke.report import newest_report
from nbtoolkit.smoke.settings import Level

CANARY = "<img src=x onerror=alert(1)>"
ADAPTER, BASE = "a" * 64, "b" * 64


def check(id: str, verdict: Verdict, level: Level = "static", **changes: Any) -> Check:
    facts = {"title": "numbers", "summary": "as found", "remedy": "train again", **changes}
    return Check(id=id, level=level, verdict=verdict, **facts)


def report(*checks: Check, **changes: Any) -> SmokeReport:
    probe = Probe(context=(1, 2), base={1: -0.5, 2: -1.5}, adapter={3: -0.1, 1: -3.5})
    fingerprint = Fingerprint(
        adapter_sha256=ADAPTER, base_sha256=BASE, dtype="float32", noise=1e-6, probes=(probe,)
    )
    facts = {
        "created": datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
        "adapter": "tone",
        "adapter_sha256": ADAPTER,
        "base": "tiny",
        "base_sha256": BASE,
        "engine": "transformers",
        "levels": ("static", "model", "contract"),
        "versions": {"peft": "0.21.2"},
        "settings": {"dtype": "auto"},
        "fingerprint": fingerprint,
        **changes,
    }
    return SmokeReport(checks=checks, **facts)


def test_warnings_are_green_and_failures_are_not() -> None:
    assert report(check("A1", "pass"), check("G1", "warn")).green
    failed = report(check("A1", "pass"), check("A6", "fail"))
    assert not failed.green
    assert [one.id for one in failed.failed] == ["A6"]


def test_a_level_that_was_not_run_is_not_green() -> None:
    partial = report(check("A1", "pass"), levels=("static", "model"))
    assert not partial.green
    assert partial.open == ("level contract was not run",)
    assert "contract" in str(partial).splitlines()[0]


def test_undecided_is_decided_by_the_next_level_only() -> None:
    undecided = check("A4", "undecided")
    assert not report(undecided).green
    assert report(undecided, check("A4", "pass", "model")).green
    assert not report(undecided, check("A4", "fail", "model")).green


def test_failure_names_every_failing_check_and_the_next_step() -> None:
    bad = report(check("A6", "fail", summary="B·A is zero"), check("A2", "fail", remedy="convert it"))
    with pytest.raises(SmokeTestFailed, match="B·A is zero") as caught:
        bad.raise_for_failure()
    assert "A2: convert it" in caught.value.next_step
    assert caught.value.report is bad  # type: ignore[attr-defined]
    good = report(check("A1", "pass"))
    assert good.raise_for_failure() is good


def test_saved_report_is_loaded_with_the_same_hash(workspace_root: Any) -> None:
    workspace = Workspace(workspace_root)
    evidence = {"ratio": 0.1 + 0.2, "bad": float("nan"), "shape": (1, 2), 3: {"x": None}, "text": "ü→"}
    saved = report(check("G1", "pass", "model", evidence=evidence, seconds=0.1))
    path = saved.save(workspace)
    loaded = SmokeReport.load(path)
    assert loaded == saved
    assert loaded.sha256 == saved.sha256
    assert path.name == f"{'a' * 16}-20261122T120000.123456Z.json"
    assert json.loads(path.read_bytes())["fingerprint"]["adapter_sha256"] == ADAPTER
    assert list(workspace.reports.iterdir()) == [path]


def test_hash_depends_on_every_part_of_the_content() -> None:
    one = report(check("A1", "pass"))
    assert one.sha256 == report(check("A1", "pass")).sha256
    assert one.sha256 != report(check("A1", "warn")).sha256
    assert one.sha256 != report(check("A1", "pass"), versions={"peft": "0.21.1"}).sha256


def test_changed_or_foreign_file_is_not_a_report(workspace_root: Any) -> None:
    path = report(check("A6", "fail")).save(Workspace(workspace_root))
    path.write_bytes(path.read_bytes().replace(b'"fail"', b'"pass" '))
    with pytest.raises(BrokenFile, match="changed after"):
        SmokeReport.load(path)
    path.write_text('{"format": 2, "verdict": "fine"}')
    with pytest.raises(BrokenFile, match=r"of this version: format: Input should be 1"):
        SmokeReport.load(path)
    path.write_text('{"format": 1}')
    with pytest.raises(BrokenFile, match="run the smoke test again"):
        SmokeReport.load(path)


def test_newest_report_of_the_same_adapter_and_base_is_used(workspace_root: Any) -> None:
    workspace = Workspace(workspace_root)
    assert newest_report(workspace, ADAPTER, BASE) is None
    first = report(check("A1", "pass"))
    second = report(check("A1", "fail"), created=first.created + timedelta(seconds=1))
    other_base = report(base_sha256="c" * 64, created=first.created + timedelta(hours=1))
    other_adapter = report(adapter_sha256="a" * 63 + "d", created=first.created + timedelta(hours=2))
    for one in (second, other_base, other_adapter, first):
        one.save(workspace)
    assert newest_report(workspace, ADAPTER, BASE) == second, "the newer red report is not used"
    assert newest_report(workspace, "e" * 64, BASE) is None


def test_html_escapes_everything_and_has_no_script() -> None:
    hostile = report(
        check("A1", "fail", title=CANARY, summary=CANARY, remedy=CANARY, evidence={CANARY: [CANARY]}),
        adapter=CANARY,
        base=CANARY,
        device=CANARY,
        versions={CANARY: CANARY},
    )
    page = hostile._repr_html_()
    assert "<img" not in page
    assert "&lt;img" in page
    assert "<script" not in page


def test_plain_text_names_checks_verdicts_and_remedies() -> None:
    text = str(report(check("A6", "fail", summary="B·A is zero"), check("G2", "skipped", "model")))
    assert text.startswith("Smoke test FAILED (A6): adapter tone on tiny")
    assert "→ train again" in text
    assert text.count("→") == 1, "a remedy without a failed check"
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ("model",)}, "static"),
        ({"levels": ("static", "remote")}, "remote"),
        ({"effect_fail": -1}, "effect_fail"),
        ({"dtyp": "auto"}, "dtype"),
    ],
)
def test_bad_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        SmokeSettings(adapter="a", base="b", **changes)


def test_levels_run_in_their_order_however_given() -> None:
    assert SmokeSettings(adapter="a", base="b", levels=["contract", "static", "model"]).levels == (
        "static",
        "model",
        "contract",
    )
