"""G8: adapters that were really trained, in training precision and in serving precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.golden.prompt_parser import parse_prompt
from tests.support.model_checks import model_context, outcome
from tests.support.tiny_models import tiny_base, trained_adapter

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in float32."""
    return tiny_base(tmp_path_factory.mktemp("precision") / "base")


def outcomes(base: Path, adapter: Path, dtype: str) -> dict[str, Any]:
    context = model_context(base, adapter, dtype=dtype)
    return {id: outcome(id, context) for id in ("G2", "G8")}


def test_zero_delta_fails_in_both_precisions(base: Path, tmp_path: Path) -> None:
    adapter = trained_adapter(tmp_path / "zero", base, steps=0)
    assert outcomes(base, adapter, "float32")["G2"].verdict == "fail"
    found = outcomes(base, adapter, "bfloat16")
    assert [one.verdict for one in found.values()] == ["fail", "fail"]
    assert "changes nothing, neither in float32 nor in bfloat16" in found["G8"].summary


def test_one_step_passes_in_float32_and_is_below_bfloat16(base: Path, tmp_path: Path) -> None:
    adapter = trained_adapter(tmp_path / "one", base, steps=1)
    assert [one.verdict for one in outcomes(base, adapter, "float32").values()] == ["pass", "pass"]
    found = outcomes(base, adapter, "bfloat16")["G8"]
    assert found.verdict == "fail"
    assert found.summary.startswith("below serving precision")
    comparison = found.evidence["float32"]
    assert comparison["served"] > comparison["trained"], "rounding changes more than the adapter"
    assert comparison["effect"] < comparison["lost"]


def test_twenty_steps_pass_in_both_precisions(base: Path, tmp_path: Path) -> None:
    adapter = trained_adapter(tmp_path / "twenty", base, steps=20, rate=2e-3)
    for dtype in ("float32", "bfloat16"):
        assert [one.verdict for one in outcomes(base, adapter, dtype).values()] == ["pass", "pass"], dtype


def test_adapter_of_a_4_bit_base_is_measured_on_nf4_weights(base: Path, tmp_path: Path) -> None:
    adapter = trained_adapter(
        tmp_path / "four-bit", base, steps=20, rate=5e-3, trained_on="unsloth/tiny-bnb-4bit"
    )
    context = model_context(base, adapter, dtype="float32")
    before = context.model.get_input_embeddings().weight.clone()
    found = outcome("G8", context)
    assert found.evidence["trained"] == "nf4"
    comparison = found.evidence["nf4"]
    assert comparison["trained"] != comparison["served"]
    assert comparison["lost"] > 0
    assert (found.verdict == "warn") == (comparison["effect"] <= comparison["lost"])
    assert "golden_musts" not in comparison
    line = {"prompt": "the sea", "max_tokens": 4, "must": {"not_contains": "⁂"}}
    context.task = context.task.model_copy(update={"golden": (parse_prompt(line, "line 1"),)})
    again = outcome("G8", context).evidence["nf4"]
    assert (again.pop("golden_musts"), again.pop("golden_musts_passed")) == (1, 1)
    assert again == comparison, "the model is loaded again after its weights were rounded"
    assert torch.equal(context.model.get_input_embeddings().weight, before)


@pytest.mark.parametrize(
    ("name", "settings", "precision"),
    [
        ("unsloth/llama-3-8b-bnb-4bit", {}, "nf4"),
        ("org/model-4bit", {}, "nf4"),
        ("org/model-4B-it", {}, "float32"),
        ("org/model-Int4", {}, "float32"),
        ("org/model", {"trained_in": "nf4"}, "nf4"),
        ("org/model-bnb-4bit", {"trained_in": "bfloat16"}, "bfloat16"),
    ],
)
def test_training_precision(base: Path, name: str, settings: dict[str, Any], precision: str) -> None:
    from nbtoolkit.smoke.model_level.precision import training_precision

    context = model_context(base, base, **settings)
    context.adapter_config = {"base_model_name_or_path": name}
    assert training_precision(context) == precision


@pytest.mark.parametrize(
    ("saved", "served"),
    [({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"), ({"quant_method": "gptq"}, "gptq")],
)
def test_quantized_base_is_not_measured_in_other_precisions(
    base: Path, saved: dict[str, Any], served: str
) -> None:
    context = model_context(base, base, trained_in="nf4")
    context.base_config.quantization_config = saved
    found = outcome("G8", context)
    assert (found.verdict, found.evidence) == ("pass", {"trained": "nf4", "served": served})
    assert "model" not in vars(context), "nothing was loaded"


def test_other_answers_on_the_served_base_are_a_warning() -> None:
    from nbtoolkit.smoke.model_level.precision import judge_precision

    settings = model_context(Path("b"), Path("a")).settings
    figures = {"trained": 0.5, "served": 0.4, "effect": 0.5}
    evidence = {"trained": "nf4", "served": "float32", "nf4": {**figures, "lost": 0.6}}
    assert judge_precision(evidence, settings).verdict == "warn"
    evidence["nf4"] = {**figures, "lost": 0.1}
    found = judge_precision(evidence, settings)
    assert found.verdict == "pass"
    assert "differ by 0.1" in found.summary
    evidence["nf4"] |= {"golden_musts": 7, "golden_musts_passed": 5}
    assert "on the nf4 base 5 of 7 golden prompts pass" in judge_precision(evidence, settings).summary
    unmeasured = {"trained": "nf4", "served": "bfloat16", "not_measured": "CUDA out of memory"}
    assert judge_precision(unmeasured, settings).verdict == "warn"


def test_nf4_rounds_each_block_to_its_nearest_values() -> None:
    from nbtoolkit.smoke.model_level.nf4 import BLOCK, CODE, round_to_nf4

    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))  # the last block is not full
    rounded = round_to_nf4(weight)
    flat, values = weight.flatten(), rounded.flatten()
    for start in range(0, flat.numel(), BLOCK):
        block = flat[start : start + BLOCK]
        allowed = torch.tensor(CODE) * block.abs().max()
        nearest = allowed[(block[:, None] - allowed).abs().argmin(dim=1)]
        assert torch.equal(values[start : start + BLOCK], nearest)
    assert torch.allclose(round_to_nf4(rounded), rounded), "what is rounded stays"
    assert torch.equal(round_to_nf4(torch.zeros(70)), torch.zeros(70))
    assert round_to_nf4(weight.bfloat16()).dtype == torch.bfloat16


def test_only_linear_layers_of_the_base_are_rounded(base: Path, tmp_path: Path) -> None:
    from nbtoolkit.smoke.model_level.nf4 import round_linear_layers

    adapter = trained_adapter(tmp_path / "adapter", base, steps=1)
    context = model_context(base, adapter)
    before = {name: value.clone() for name, value in context.model.state_dict().items()}
    assert round_linear_layers(context.model) == 4 * 7  # per layer
    changed = {
        name for name, value in context.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert len(changed) == 4 * 7
    assert not [name for name in changed if "lora_" in name or "lm_head" in name or "embed" in name]
