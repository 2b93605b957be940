"""The model level's checks, run in this process on tiny models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.serving.fingerprint import distance, judge
from nbtoolkit.smoke.check import registered_checks
from tests.support.model_checks import model_context, outcome
from tests.support.tiny_models import tiny_adapter, tiny_base

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny bases with an adapter each."""
    root = tmp_path_factory.mktemp("smoke-model")
    for kind in ("llama", "phi3", "gpt2"):
        tiny_base(root / kind, kind)
        tiny_adapter(root / f"{kind}-adapter", root / kind, alpha=8)
    return root


@pytest.fixture
def adapter(models: Path, tmp_path: Path) -> Path:
    """A copy of the Llama's adapter, to damage."""
    return Path(shutil.copytree(models / "llama-adapter", tmp_path / "adapter"))


def change(adapter: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    save_file(edit(load_file(adapter / WEIGHTS)), adapter / WEIGHTS, {"format": "pt"})


def scaled(factor: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda content: {k: v * factor if "lora_B" in k else v for k, v in content.items()}


def edit_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_ids_and_titles_in_the_kernel_equal_those_of_the_model_level(models: Path) -> None:
    from nbtoolkit.smoke.model_process import MODEL_CHECKS

    outcome("A3", model_context(models / "llama", models / "llama-adapter"))
    assert {one.id: one.title for one in registered_checks("model")} == MODEL_CHECKS


def replayed(model: Any, contexts: list[list[int]]) -> list[dict[int, float]]:
    from nbtoolkit.smoke.model_level.forward import logits_batched, top_logprobs

    return [top_logprobs(logits[-1]) for logits in logits_batched(model, contexts)]


@pytest.mark.parametrize("kind", ["llama", "phi3", "gpt2"])
def test_good_adapter_passes_and_its_fingerprint_is_not_the_base(models: Path, kind: str) -> None:
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    context = model_context(models / kind, models / f"{kind}-adapter", norm_warn=10)
    assert [outcome(id, context).verdict for id in ("A3", "A4", "G1", "G2")] == ["pass"] * 4
    found = take_fingerprint(context)
    contexts = [probe.context for probe in found.probes]
    assert len(set(contexts)) == 16
    assert max(map(len, contexts)) <= 24
    assert {len(probe.base) for probe in found.probes} == {5}
    assert 0 < found.noise < 1e-4
    tuned, base = (replayed(model, found.contexts) for model in (context.model, context.base))
    assert judge(found, tuned, base).outcome == "proven"
    assert judge(found, base, base).outcome == "adapter differs"
    assert judge(found, tuned, tuned).outcome == "base differs"


def test_fingerprint_distinguishes_two_adapters_in_bfloat16(models: Path, tmp_path: Path) -> None:
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    other = tiny_adapter(tmp_path / "other", models / "llama", seed=2, alpha=8)
    first = model_context(models / "llama", models / "llama-adapter", dtype="bfloat16")
    found = take_fingerprint(first)
    assert found.dtype == "bfloat16"
    assert all(distance(probe.base, probe.adapter) > 4 * found.noise for probe in found.probes)
    second = model_context(models / "llama", other, dtype="bfloat16")
    own, foreign = (replayed(one.model, found.contexts) for one in (first, second))
    assert judge(found, own, old=foreign).outcome == "proven"
    assert judge(found, foreign, old=own).outcome == "adapter differs"


def test_noise_is_measured_for_each_precision_that_auto_may_mean(models: Path) -> None:
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint
    from nbtoolkit.smoke.model_level.forward import computing_in

    found = take_fingerprint(model_context(models / "llama", models / "llama-adapter", dtype="float32"))
    assert set(found.probes[0].noise) == {"float32"}
    base = models / "llama-bfloat16"
    if not base.exists():
        tiny_base(base, dtype="bfloat16")
    context = model_context(base, models / "llama-adapter")
    found = take_fingerprint(context)
    assert set(found.probes[0].noise) == {"float32", "bfloat16", "float16"}
    for dtype in ("float32", "float16"):
        with computing_in(context.model, getattr(torch, dtype)):
            verdict = judge(found, replayed(context.model, found.contexts), dtype=dtype)
        assert verdict, verdict


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_another_precision_computes_with_the_same_weights(models: Path, kind: str) -> None:
    from nbtoolkit.smoke.model_level.forward import computing_in, logits_alone

    context = model_context(models / kind, models / f"{kind}-adapter", dtype="bfloat16")
    ids = context.prompt_ids[0]
    before = {name: value.data_ptr() for name, value in context.model.named_parameters()}
    plain = logits_alone(context.model, ids)
    with computing_in(context.model, torch.float32):
        exact = logits_alone(context.model, ids)
    assert (plain.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(exact, logits_alone(context.model.float(), ids))
    assert torch.allclose(exact, plain.float(), atol=1)
    assert before.keys() == dict(context.model.named_parameters()).keys()


def test_base_is_measured_before_an_adapter_that_rewrites_it(models: Path, tmp_path: Path) -> None:
    from nbtoolkit.smoke.model_level.effect import base_on_prompts
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint
    from nbtoolkit.smoke.model_level.forward import logits_alone

    tiny_base(tmp_path / "qwen2", "qwen2")
    adapter = tiny_adapter(tmp_path / "biased", tmp_path / "qwen2", alpha=8, bias="all")
    change(adapter, lambda content: {k: v + 1.0 if "bias" in k else v for k, v in content.items()})
    context = model_context(tmp_path / "qwen2", adapter)
    found = take_fingerprint(context)
    assert judge(found, replayed(context.model, found.contexts), replayed(context.base, found.contexts))
    with context.model.disable_adapter():
        touched = replayed(context.model, found.contexts)
    assert judge(found, replayed(context.model, found.contexts), touched).outcome == "base differs"
    clean = logits_alone(context.base, context.prompt_ids[0]).log_softmax(-1)
    kept = base_on_prompts(context).distributions[0]
    assert torch.allclose(clean.gather(-1, kept.ids), kept.logprobs[:, :-1].float(), atol=1e-5)


def test_divergence_with_tokens_that_are_not_kept_is_that_of_the_whole_distribution() -> None:
    from nbtoolkit.smoke.model_level.forward import distributions, divergence

    reference, other = torch.randn(2, 5, 1500) * 3
    p, q = reference.log_softmax(-1), other.log_softmax(-1)
    exact = (p.exp() * (p - q)).sum(-1)
    found = divergence(distributions(reference), other).float()
    assert torch.all(found <= exact + 1e-5)
    assert torch.allclose(found, exact, rtol=0.01)


def test_layers_that_the_base_lacks_fail_the_match(models: Path, tmp_path: Path) -> None:
    shallow = tiny_base(tmp_path / "shallow", "llama", layers=2)
    found = outcome("A4", model_context(shallow, models / "llama-adapter"))
    assert found.verdict == "fail"
    assert all("layers." in key for key in found.evidence["unexpected"])
    assert found.remedy


def test_other_shapes_fail_the_match_with_both_shapes(models: Path, tmp_path: Path) -> None:
    wide = tiny_base(tmp_path / "wide", "llama", hidden=48)
    found = outcome("A4", model_context(wide, models / "llama-adapter"))
    assert found.verdict == "fail"
    assert "[4, 32] in the file, [4, 48] in the base" in found.summary


def test_missing_keys_fail_the_load(models: Path, adapter: Path) -> None:
    change(adapter, lambda content: {k: v for k, v in content.items() if "layers.3" not in k})
    found = outcome("G1", model_context(models / "llama", adapter))
    assert (found.verdict, len(found.evidence["missing"])) == ("fail", 6)
    assert outcome("A4", model_context(models / "llama", adapter)).verdict == "warn"


def test_norm_ratio_is_that_of_the_full_matrices(models: Path) -> None:
    from nbtoolkit.smoke.model_level.load import lora_layers, norm_ratios

    context = model_context(models / "gpt2", models / "gpt2-adapter")
    ratios = norm_ratios(context.model, context.adapter_name)
    for path, module in lora_layers(context.model, context.adapter_name):
        delta = module.get_delta_weight(context.adapter_name)  # the full matrix, including the scale
        expected = delta.norm() / module.get_base_layer().weight.norm()
        assert ratios[path] == pytest.approx(float(expected), rel=1e-4)
    assert len(ratios) == 4


def test_strong_adapter_is_a_warning(models: Path, adapter: Path) -> None:
    change(adapter, scaled(20))
    found = outcome("G1", model_context(models / "llama", adapter))
    assert found.verdict == "warn"
    assert max(found.evidence["highest_norm_ratios"].values()) > 0.5


def test_adapter_without_effect_fails(models: Path, adapter: Path) -> None:
    change(adapter, scaled(1e-12))
    found = outcome("G2", model_context(models / "llama", adapter, dtype="float32"))
    assert found.verdict == "fail"
    assert "changes nothing" in found.summary


def test_effect_below_bfloat16_precision_is_named(models: Path, adapter: Path) -> None:
    change(adapter, scaled(4e-4))  # alpha is half of what the limits below were measured with
    limits = {"effect_fail": 60, "effect_warn": 60}  # batches of so small a model round nearly equally
    found = outcome("G2", model_context(models / "llama", adapter, dtype="bfloat16", **limits))
    assert found.verdict == "fail"
    assert "below serving precision" in found.summary
    assert found.evidence["float32"]["kl_nats"] < found.evidence["kl_nats"]
    assert (
        outcome("G2", model_context(models / "llama", adapter, dtype="float32", **limits)).verdict == "pass"
    )


def test_effect_is_reported_per_prompt(models: Path) -> None:
    context = model_context(models / "llama", models / "llama-adapter", prompts=["mine", " "])
    found = outcome("G2", context).evidence
    per_prompt = found["kl_per_prompt"]
    assert next(iter(per_prompt)) == "mine", "a blank prompt is left out"
    assert len(per_prompt) == 9
    total = sum(kl * len(ids) for kl, ids in zip(per_prompt.values(), context.prompt_ids, strict=True))
    assert total / found["positions"] == pytest.approx(found["kl_nats"])


def test_small_effect_is_a_warning(models: Path, adapter: Path) -> None:
    context = model_context(models / "llama", adapter, effect_warn=1e15)
    assert outcome("G2", context).verdict == "warn"


def test_modules_that_change_nothing_are_listed(models: Path, adapter: Path) -> None:
    change(adapter, lambda c: {k: v * 0 if "layers.1" in k and "lora_B" in k else v for k, v in c.items()})
    found = outcome("G2", model_context(models / "llama", adapter))
    assert found.verdict == "warn"
    silent = found.evidence["modules_without_output"]
    assert sorted(silent) == [f"model.layers.1.self_attn.{name}_proj" for name in "oqv"]


def test_numbers_beyond_half_precision_fail(models: Path, adapter: Path) -> None:
    change(adapter, scaled(1e9))
    found = outcome("G2", model_context(models / "llama", adapter, dtype="float16"))
    assert found.verdict == "fail"
    assert "NaN or infinities in float16" in found.summary


def test_padding_changes_nothing_but_rounding(models: Path) -> None:
    from nbtoolkit.smoke.model_level.forward import logits_alone, logits_batched

    context = model_context(models / "gpt2", models / "gpt2-adapter")
    rows = [[5, 6, 7], list(range(20)), [9]]
    for ids, batched in zip(rows, logits_batched(context.model, rows), strict=True):
        assert torch.allclose(logits_alone(context.model, ids), batched, atol=1e-4)


def test_greedy_answers_are_those_of_generate(models: Path) -> None:
    from nbtoolkit.smoke.model_level.degeneration import generate_greedy

    context = model_context(models / "llama", models / "llama-adapter")
    rows = context.prompt_ids[:3]
    answers = generate_greedy(context, context.model, rows, 12)
    for ids, answer in zip(rows, answers, strict=True):
        whole = context.model.generate(input_ids=torch.tensor([ids]), max_new_tokens=12, do_sample=False)
        assert whole[0, len(ids) :].tolist()[: len(answer)] == answer


class Words:
    """A tokenizer of four words; token 9 is half a character."""

    unk_token_id = 7

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join("�" if i == 9 else f" w{i}" for i in ids)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ([], "empty"),
        ([1, 2, 3], ""),
        ([1] * 15, ""),
        ([1] * 16, "16 times in a row"),
        ([1, 2, 7], "1 unknown tokens of 3"),
        ([*range(100, 299), 7, 7], ""),
        ([1, 9, 2], "cannot be decoded"),
        ([1, 2, 9], ""),
    ],
)
def test_degeneration_is_found(models: Path, answer: list[int], problem: str) -> None:
    from nbtoolkit.smoke.model_level.degeneration import find_problem

    settings = model_context(models / "llama", models / "llama-adapter").settings
    found = find_problem(answer, Words(), settings)
    assert problem in found
    assert bool(problem) == bool(found)


def test_only_answers_that_the_adapter_alone_degenerates_fail(models: Path) -> None:
    from nbtoolkit.smoke.model_level.degeneration import compare_answers

    context = model_context(models / "llama", models / "llama-adapter")
    sound, loop = [65, 66, 67], [65] * 20
    base = [loop, *[sound] * 7]
    assert compare_answers(context, base, base).verdict == "pass"
    found = compare_answers(context, base, [loop] * 2 + [sound] * 6)
    assert (found.verdict, len(found.evidence["broken"])) == ("fail", 1)
    assert "20 times in a row" in found.summary


def test_gpu_that_is_not_used_is_a_failure(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbtoolkit.smoke.model_level.context import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "dev").mkdir()
    assert choose_device({}, tmp_path).problem == ""
    (tmp_path / "dev/nvidia0").touch()
    device = choose_device({}, tmp_path)
    assert device.kind == "cpu"
    assert "there is a GPU" in device.problem
    assert choose_device({"CUDA_VISIBLE_DEVICES": ""}, tmp_path).problem == "", (
        "a hidden GPU is a choice of the user"
    )
    context = model_context(models / "llama", models / "llama-adapter", norm_warn=10)
    context.device = device
    found = outcome("G1", context)
    assert found.verdict == "fail"
    assert device.problem in found.summary
    assert "model" not in vars(context), "nothing is loaded on the CPU"


@pytest.mark.parametrize("requested", ["auto", "float16"])
@pytest.mark.parametrize("saved", [None, "float32", "bfloat16", "float16"])
def test_dtype_is_the_one_of_the_engine(requested: str, saved: str | None) -> None:
    from nbtoolkit.serving.dtype import cpu_has_bfloat16, serving_dtype
    from nbtoolkit.serving.engines.transformers.model_loader import pick_dtype

    mine = serving_dtype(requested, device="cpu", saved=saved, has_bfloat16=cpu_has_bfloat16())
    assert getattr(torch, mine) == pick_dtype(requested, saved, torch.device("cpu"))


def test_speed_and_memory_of_an_answer_are_measured(models: Path) -> None:
    found = outcome("G6", model_context(models / "llama", models / "llama-adapter"))
    assert found.verdict == "pass"
    assert found.evidence["seconds_to_first_token"] > 0
    assert found.evidence["tokens_per_second"] > 1
    assert found.evidence["memory_gib"] > found.evidence["peak_gib"] > 0.1
