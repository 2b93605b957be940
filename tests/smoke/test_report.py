"""The smoke report: when it is green, how it is rendered, saved and loaded."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nbtoolkit import SmokeReport, SmokeSettings, Workspace
from nbtoolkit.errors import BrokenFile, InvalidSettings, SmokeTestFailed
from nbtoolkit.serving.fingerprint import Fingerprint, Probe
from nbtoolkit.smoke.check import Check, Verdict
from nbtoolkit.smoke.report import newest_report, previous_report
from nbtoolkit.smoke.report.plots import strength_per_layer
from nbtoolkit.smoke.settings import Level

CANARY = "<img src=x onerror=alert(1)>"
ADAPTER, BASE = "a" * 64, "b" * 64


def check(id: str, verdict: Verdict, level: Level = "static", **changes: Any) -> Check:
    facts = {"title": "numbers", "summary": "as found", "remedy": "train again", **changes}
    return Check(id=id, level=level, verdict=verdict, **facts)


def report(*checks: Check, **changes: Any) -> SmokeReport:
    noise = {"float32": 1e-6}
    probe = Probe(context=(1, 2), base={1: -0.5, 2: -1.5}, adapter={3: -0.1, 1: -3.5}, noise=noise)
    fingerprint = Fingerprint(adapter_sha256=ADAPTER, base_sha256=BASE, dtype="float32", probes=(probe,))
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
    path.write_text('{"format": 1, "verdict": "fine"}')
    with pytest.raises(BrokenFile, match=r"of this version: format: Input should be 2"):
        SmokeReport.load(path)
    path.write_text('{"format": 2}')
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
    ).compared_with(report(check("A1", "pass"), adapter=CANARY, adapter_sha256="d" * 64))
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


def test_checks_that_were_skipped_for_one_reason_share_a_line() -> None:
    because = {"level": "model", "summary": "skipped: A6 failed"}
    text = str(
        report(check("A6", "fail"), check("G1", "skipped", **because), check("G2", "skipped", **because))
    )
    assert [line for line in text.splitlines() if "SKIPPED" in line] == ["SKIPPED   G1, G2: A6 failed"]


def test_checks_that_need_an_action_come_first() -> None:
    made = report(
        check("A1", "pass"),
        check("A2", "skipped"),
        check("A4", "undecided"),
        check("G1", "warn", "model"),
        check("G2", "fail", "model"),
        check("G3", "fail", "model"),
    )
    order = ["G2", "G3", "A4", "G1", "A1", "A2"]
    assert re.findall(r"<b>([AG]\d) ", made._repr_html_()) == order
    assert re.findall(r"^[A-Z]+ +([AG]\d)[ :]", str(made), re.MULTILINE) == order
    opened = made._repr_html_().partition("1 check passed, 1 check skipped")[0]
    assert "G1" in opened
    assert "A1" not in opened


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail", "skipped", "undecided"])
def test_page_shows_every_verdict_with_folded_evidence(verdict: Verdict) -> None:
    page = report(check("A1", verdict, evidence={"tensors": 4}))._repr_html_()
    assert f">{verdict}</span>" in page
    assert "<summary" in page.partition("&quot;tensors&quot;: 4")[0]
    assert "open" not in re.findall(r"<details[^>]*>", page)[0]
    assert ("Next:" in page) == (verdict in ("warn", "fail", "undecided"))


def test_plots_have_a_text_alternative_and_escape_their_labels() -> None:
    ratios = {f"model.layers.{i}.mlp.up_proj": i / 10 for i in range(12)} | {"model.layers.3.q_proj": 0.9}
    page = report(
        check("G1", "pass", "model", evidence={"norm_ratios": ratios}),
        check("G2", "pass", "model", evidence={"kl_per_prompt": {CANARY: 0.5, "a": float("nan")}}),
        check("G6", "pass", "model", evidence={"tokens_per_second_of": {"base": 20.0, "adapter": 15.0}}),
    )._repr_html_()
    assert page.count('<svg role="img" aria-label="') == 3
    alternatives = re.findall(r'aria-label="([^"]*)"', page)
    assert "layer 3: 0.9 in model.layers.3.q_proj" in alternatives[0]
    assert "layer 11: 1.1" in alternatives[0]
    assert "base: 20" in alternatives[2]
    assert "<img" not in page
    assert "nan" not in page.partition("<svg")[2].lower().partition("about this report")[0]


@pytest.mark.parametrize("name", ["transformer.h.1.attn.c_attn", "layers.1.q_proj", "a.blocks.1.x"])
def test_layers_of_every_architecture_are_found(name: str) -> None:
    assert [bar.label for bar in strength_per_layer({name: 0.1, "lm_head": 0.2})] == ["1"]


def test_changes_since_the_previous_adapter_are_reported(workspace_root: Any) -> None:
    workspace = Workspace(workspace_root)
    old = report(
        check("A1", "pass"),
        check("G2", "pass", "model", evidence={"kl_nats": 1.0}),
        check("G6", "pass", "model", evidence={"tokens_per_second": 20.0}),
        check("G8", "pass", "model"),
        adapter="tone-v1",
        adapter_sha256="d" * 64,
    )
    later = old.created + timedelta(hours=1)
    for one in (
        old,
        report(created=later, adapter_sha256="e" * 64, base_sha256="c" * 64),
        report(created=later),
    ):
        one.save(workspace)
    (workspace.reports / f"{'f' * 16}-20990101T000000.0Z.json").write_text("{}")
    found = previous_report(workspace, ADAPTER, BASE)
    assert found == old
    now = report(
        check("A1", "pass"),
        check("G2", "warn", "model", evidence={"kl_nats": 0.5}),
        check("G6", "pass", "model", evidence={"tokens_per_second": 20.5}),
        check("G7", "pass", "contract"),
        check("G8", "skipped", "model"),
    ).compared_with(found)
    assert now.comparison
    assert now.comparison.lines[1:] == ["G2 numbers: pass → warn", "G2 effect (KL, nats): 1 → 0.5"]
    assert "tone-v1" in str(now)
    assert "tone-v1" in now._repr_html_()
    assert SmokeReport.load(now.save(workspace)) == now
    assert now.compared_with(None) == now


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
