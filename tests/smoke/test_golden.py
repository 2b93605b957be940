"""G5: golden prompts on the adapter, the base and the previous adapter."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.errors import BrokenFile
from nbtoolkit.golden.prompt_parser import parse_prompt
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.smoke.check import Check, CheckOutcome
from nbtoolkit.smoke.golden_prompts import previous_golden_answers
from nbtoolkit.smoke.golden_verdict import GoldenAnswers, PreviousGoldenAnswers, judge_golden
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.smoke.settings import SmokeSettings
from nbtoolkit.smoke.workflow import smoke_test
from nbtoolkit.workspace import Workspace
from tests.support.model_checks import model_context
from tests.support.tiny_models import tiny_adapter, tiny_base

pytest.importorskip("torch")


def prompts(*lines: dict[str, Any]) -> tuple[GoldenPrompt, ...]:
    return tuple(parse_prompt({"prompt": f"p{i}", **line}, f"line {i}") for i, line in enumerate(lines))


def judged(
    asked: tuple[GoldenPrompt, ...],
    own: list[str],
    base: list[str],
    *repeats: list[str],
    previous: PreviousGoldenAnswers | None = None,
    **measured: Any,
) -> CheckOutcome:
    return judge_golden(GoldenAnswers(asked, own, base, repeats, **measured), previous, nice_warn=0.8)


JOY = {"must": {"contains": "joy"}}


def test_a_failing_must_fails_and_names_prompt_and_reason() -> None:
    found = judged(prompts(JOY, JOY), ["joy", "sad"], ["x", "x"])
    assert found.verdict == "fail"
    assert "1 of 2 golden prompts pass" in found.summary
    assert "line 1: the answer does not contain 'joy'" in found.summary
    assert found.evidence["failed"][0]["answer"] == "sad"


def test_a_must_that_fails_only_in_another_batch_fails() -> None:
    found = judged(prompts(JOY), ["joy"], ["x"], ["joy"], ["sad"])
    assert found.verdict == "fail"
    assert "0 to 1 of 1 golden prompts pass in 3 batch compositions" in found.summary
    assert "in 1 of 3 batch compositions" in found.summary
    assert found.evidence["failed"][0]["answer"] == "sad"


def test_the_report_counts_what_discriminates() -> None:
    found = judged(prompts(JOY, JOY, JOY), ["joy"] * 3, ["joy", "x", "x"])
    assert found.verdict == "pass"
    assert "2 discriminate: the base passes 1 of 3" in found.summary
    assert found.evidence["discriminating"] == 2


def test_a_set_that_the_base_passes_warns() -> None:
    found = judged(prompts(JOY), ["joy"], ["joy"])
    assert found.verdict == "warn"
    assert "does not discriminate" in found.summary
    assert "draft_golden" in found.remedy


@pytest.mark.parametrize("line", [{"nice": {"contains": "joy"}}, {"must": {"regex": ".*"}}])
def test_a_set_that_cannot_fail_warns(line: dict[str, Any]) -> None:
    found = judged(prompts(line), ["joy"], ["x"])
    assert (found.verdict, "nothing can fail" in found.summary) == ("warn", True)


@pytest.mark.parametrize(("passing", "verdict"), [(3, "warn"), (4, "pass")])
def test_too_few_nice_checks_warn(passing: int, verdict: str) -> None:
    nice = {"nice": [{"contains": str(number)} for number in range(5)], **JOY}
    answer = "joy " + "".join(map(str, range(passing)))
    found = judged(prompts(nice), [answer], ["x"])
    assert found.verdict == verdict
    assert f"nice: {passing} of 5" in found.summary


def test_expected_answers_that_are_less_likely_than_for_the_base_warn() -> None:
    worse = judged(prompts(JOY), ["joy"], ["x"], perplexity=(9.0, 4.0))
    assert worse.verdict == "warn"
    assert "perplexity 9, base 4" in worse.summary
    assert judged(prompts(JOY), ["joy"], ["x"], perplexity=(3.0, 4.0)).verdict == "pass"


def test_a_prompt_that_the_server_would_refuse_fails() -> None:
    found = judged(prompts(JOY), [""], [""], refused={0: "it needs 900 tokens"})
    assert (found.verdict, "900 tokens" in found.summary) == ("fail", True)
    assert "the answer is missing: it needs" in found.summary


def test_the_previous_adapter_is_scored_with_the_checks_of_today() -> None:
    asked = prompts(JOY, JOY)
    previous = PreviousGoldenAnswers(name="tone-1", prompts=asked, answers=("joy", "sad"))
    found = judged(asked, ["joy", "joy"], ["x", "x"], previous=previous)
    assert "tone-1 before: 1 of 2 same prompts" in found.summary
    assert "skipped: no green report" in judged(asked, ["joy"] * 2, ["x"] * 2).evidence["previous"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("golden")
    tiny_base(root / "base")
    tiny_adapter(root / "adapter", root / "base", alpha=8)
    return root


def golden_context(models: Path, golden: tuple[GoldenPrompt, ...]) -> Any:
    return model_context(models / "base", models / "adapter", {"golden": golden})


@pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated
def test_answers_of_adapter_and_base_are_those_of_plain_generation(models: Path) -> None:
    import torch

    from nbtoolkit.smoke.model_level.golden import golden_prompts, measure_golden, prompt_ids

    asked = prompts(*({"prompt": text, "max_tokens": length, **JOY} for text, length in
                      [("Hello", 6), ("I lost my dog.", 9), ("the and the", 3), ("a" * 600, 3)]))  # fmt: skip
    context = golden_context(models, asked)
    measured = measure_golden(context)
    assert list(measured.refused) == [3]
    assert "the model has 512" in measured.refused[3]
    for index, prompt in enumerate(asked[:3]):
        ids = torch.tensor([prompt_ids(context, prompt)])
        assert context.tokenizer.decode(ids[0]).endswith("<|im_start|>assistant\n")
        with torch.inference_mode():
            made = context.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=prompt.max_tokens,
            )
            with context.model.disable_adapter():
                base = context.model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=prompt.max_tokens,
                )
        texts = [
            context.tokenizer.decode(one[0, ids.shape[1] :], skip_special_tokens=True) for one in (made, base)
        ]
        assert [measured.own[index], measured.base[index]] == texts
        assert {answers[index] for answers in measured.repeats} == {texts[0]}
    assert golden_prompts.run(context).verdict == "fail"


@pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated
def test_perplexity_is_that_of_the_expected_answer_alone(models: Path) -> None:
    import torch

    from nbtoolkit.smoke.model_level.golden import measure_golden, prompt_ids

    (asked,) = prompts({"prompt": "Hello", "max_tokens": 1, "expected": "the and the", **JOY})
    context = golden_context(models, (asked,))
    prompt = prompt_ids(context, asked)
    ids = torch.tensor([[*prompt, *context.tokenizer("the and the")["input_ids"]]])
    labels = ids.clone()
    labels[0, : len(prompt)] = -100
    with torch.no_grad():
        own = context.model(input_ids=ids, labels=labels).loss.exp()
        with context.model.disable_adapter():
            base = context.model(input_ids=ids, labels=labels).loss.exp()
    assert measure_golden(context).perplexity == pytest.approx((float(own), float(base)), rel=1e-3)


def test_without_a_file_the_check_is_skipped(models: Path) -> None:
    from nbtoolkit.smoke.model_level.golden import golden_prompts

    assert golden_prompts.run(golden_context(models, ())).verdict == "skipped"


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def test_the_file_next_to_the_adapter_is_run_and_stored(models: Path, workspace_root: Path) -> None:
    write(
        models / "adapter" / "golden.jsonl", {"prompt": "Hello", "max_tokens": 4, "must": {"regex": "(?s).*"}}
    )
    settings = SmokeSettings(
        adapter=models / "adapter", base=str(models / "base"), levels=("static", "model"), norm_warn=10
    )
    try:
        report = smoke_test(settings, workspace=Workspace(workspace_root))
        (golden,) = [one for one in report.checks if one.id == "G5"]
        assert (golden.verdict, "nothing can fail" in golden.summary) == ("warn", True), golden.summary
        assert [prompt.question for prompt in report.golden] == ["Hello"]
        assert report.settings["golden_sha256"]
        (path,) = Workspace(workspace_root).reports.glob("*.json")
        assert SmokeReport.load(path) == report
        write(models / "adapter" / "golden.jsonl", {"prompt": "Hello"})
        with pytest.raises(BrokenFile, match="line 1"):
            smoke_test(settings, workspace=Workspace(workspace_root))
    finally:
        (models / "adapter" / "golden.jsonl").unlink()


def test_a_green_report_is_reused_until_the_golden_file_changes(models: Path, workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    file = workspace_root / "golden.jsonl"
    settings = SmokeSettings(
        adapter=models / "adapter", base=str(models / "base"), levels=("static",), golden=file
    )
    write(file, {"prompt": "Hello", **JOY})
    first = smoke_test(settings, workspace=workspace)
    passing = tuple(one for one in first.checks if one.verdict != "undecided")
    green = first.model_copy(update={"levels": ("static", "model", "contract"), "checks": passing})
    green = green.model_copy(update={"created": datetime.now(UTC)})
    green.save(workspace)
    write(file, {"prompt": "Hello", **JOY})
    assert smoke_test(settings, workspace=workspace) == green
    write(file, {"prompt": "Hello", "must": {"contains": "sad"}})
    assert smoke_test(settings, workspace=workspace) != green


def test_the_answers_of_the_newest_green_report_of_another_adapter_are_found(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    asked = prompts(JOY, {"prompt": "other", **JOY})
    for number, (sha256, name) in enumerate([("a", "mine"), ("b", "older"), ("c", "newer"), ("d", "red")]):
        verdict = "fail" if name == "red" else "pass"
        check = Check(id="G5", level="model", title="golden prompts", verdict=verdict, summary="",
                      evidence={"answers": [{"adapter": name}, {"adapter": "joy"}]})  # fmt: skip
        SmokeReport(
            created=datetime(2026, 1, 1, number, tzinfo=UTC), adapter=name,
            adapter_sha256=sha256 * 64, base="b", base_sha256="b" * 64, engine="transformers",
            levels=("static", "model", "contract"), versions={},
            settings={}, checks=(check,), golden=asked,
        ).save(workspace)  # fmt: skip
    changed = asked[0].model_copy(update={"must": asked[1].must[:0]}), *prompts(JOY, JOY, JOY)[2:]
    found = previous_golden_answers(workspace, "a" * 64, "b" * 64, changed)
    assert found is not None
    assert (found.name, found.answers) == ("newer", ("newer",))
    assert previous_golden_answers(workspace, "a" * 64, "x" * 64, changed) is None
