"""Packed layers compute with their own weights, whatever peft copies or replaces."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import linear
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations
from transformers import AutoModelForCausalLM

from nbtoolkit.serving.engines.transformers.adapters import Adapters
from nbtoolkit.serving.engines.transformers.cpu_kernels import PackedLinear, fuse, pack, repack
from nbtoolkit.serving.openai_format import ApiError
from tests.support.tiny_models import tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing",
    "ignore:Model has `tie_word_embeddings=True`",
    "ignore:Model with `tie_word_embeddings=True`",
)
IDS = torch.tensor([[5, 6, 7, 8]])
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.8}
"""The adapters move log-probabilities by several nats."""


def packed(model: Any) -> Any:
    model.eval().requires_grad_(False)
    if not pack(model):
        pytest.skip("this machine does not pack linear layers")
    return model


def packed_linear() -> Any:
    return packed(nn.Sequential(nn.Linear(16, 32)))[0]


def matches_unpacked(layer: Any) -> bool:
    x = torch.randn(3, 16)
    with torch.inference_mode():
        return torch.allclose(layer(x), linear(x, layer.weight, layer.bias), atol=1e-4)


def replace(layer: Any) -> None:
    layer.weight = nn.Parameter(torch.randn(32, 16), requires_grad=False)


def replace_data(layer: Any) -> None:
    layer.weight.data = torch.randn(32, 16)


def change_in_place(layer: Any) -> None:
    layer.weight.add_(1.0)


def replace_bias(layer: Any) -> None:
    layer.bias = nn.Parameter(torch.randn(32), requires_grad=False)


@pytest.mark.parametrize("change", [replace, replace_data, change_in_place, replace_bias])
def test_a_packed_layer_follows_a_change_of_its_weights(change: Any) -> None:
    layer = packed_linear()
    assert layer.is_packed
    change(layer)
    assert matches_unpacked(layer)
    repack(layer)
    assert layer.is_packed
    assert matches_unpacked(layer)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy])
def test_a_copy_of_a_packed_layer_computes_with_its_own_weight(duplicate: Any) -> None:
    layer = packed_linear()
    other = duplicate(nn.Sequential(layer) if duplicate is copy.deepcopy else layer)
    other = other[0] if duplicate is copy.deepcopy else other
    assert not other.is_packed
    change_in_place(other)
    assert matches_unpacked(other)
    assert matches_unpacked(layer)
    repack(other)
    assert other.is_packed
    assert matches_unpacked(other)


def test_a_packed_layer_applies_a_parametrization_of_its_weight() -> None:
    class Double(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    layer = packed_linear()
    register_parametrization(layer, "weight", Double())
    assert matches_unpacked(layer)
    remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert matches_unpacked(layer)
    assert type(layer) is PackedLinear


def test_a_copy_of_a_shortened_layer_computes_with_its_own_matrices() -> None:
    model = packed(nn.ModuleDict({"x": nn.Linear(16, 32)}))
    get_peft_model(model, LoraConfig(r=2, target_modules=["x"], init_lora_weights=False)).eval()
    layer: Any = model["x"]
    layer._active_adapter = ["default"]
    fuse(layer)
    duplicate = copy.deepcopy(layer)
    x = torch.randn(3, 16)
    with torch.inference_mode():
        before = layer(x)
        torch.testing.assert_close(duplicate(x), before)
        duplicate.lora_B["default"].weight.zero_()
        torch.testing.assert_close(duplicate(x), layer.base_layer(x))
        duplicate.lora_B["default"].weight = nn.Parameter(layer.lora_B["default"].weight * 2)
        expected = layer.base_layer(x) + 2 * (before - layer.base_layer(x))
        torch.testing.assert_close(duplicate(x), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer(x), before)


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def base(request: pytest.FixtureRequest, tied: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_base(tmp_path_factory.mktemp("packing") / "base", dtype=request.param)
    if tied:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
        weights = load_file(folder / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def trained(folder: Path, base: Path, **kind: Any) -> Path:
    """Write an adapter whose saved modules differ from the base's; its copies of base weights do not."""
    tiny_adapter(folder, base, seed=4, **kind)
    file = folder / "adapter_model.safetensors"
    content = load_file(file)
    for key, value in content.items():
        if "lora_" not in key and "base_layer" not in key:
            same = torch.Generator().manual_seed(6)  # the two copies of a tied weight stay equal
            value += 0.1 * torch.randn(value.shape, generator=same).to(value.dtype)
    save_file(content, file, {"format": "pt"})
    return folder


def log_probabilities(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float().log_softmax(-1)


def peft_log_probabilities(base: Path, adapter: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(base)
    return log_probabilities(PeftModel.from_pretrained(model, str(adapter)).eval())


KINDS: dict[str, dict[str, Any]] = {
    "head": {"modules_to_save": ["lm_head"]},
    "embedding": {"modules_to_save": ["embed_tokens"]},
    "both": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "embedding-ensured": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    "layer": {"modules_to_save": ["down_proj"]},
    "tokens": {"trainable_token_indices": [5, 7]},
    "parameter": {"target_parameters": ["k_proj.weight"]},
    "lora-head": {"targets": ("q_proj", "lm_head")},
}


@pytest.mark.parametrize(
    ("kind", "first"),
    # peft refuses another adapter after one with trainable tokens
    [(kind, first) for kind in KINDS for first in (True, False) if (kind, first) != ("tokens", True)],
)
def test_a_packed_base_equals_peft_with_every_adapter_and_the_base_without(
    base: Path, tied: bool, tmp_path: Path, kind: str, first: bool
) -> None:
    options = copy.deepcopy(KINDS[kind])
    if not tied:
        options.pop("ensure_weight_tying", None)  # nothing to tie
    folders = {
        "the_kind": trained(tmp_path / "kind", base, **options),
        "the_other": tiny_adapter(tmp_path / "other", base, seed=3),
    }
    model = packed(AutoModelForCausalLM.from_pretrained(base))
    tolerance = TOLERANCE[str(model.dtype).removeprefix("torch.")]
    plain, names = log_probabilities(model), set(model.state_dict())
    adapters = Adapters(model)
    order = list(folders) if first else list(reversed(folders))
    for name in order:
        adapters.load(name, folders[name])
    expected = {name: peft_log_probabilities(base, folder) for name, folder in folders.items()}
    assert (expected["the_kind"] - plain).abs().max() > 2
    for name in (*order, None, *order):
        adapters.activate(name)
        wanted = plain if name is None else expected[name]
        torch.testing.assert_close(log_probabilities(model), wanted, atol=tolerance, rtol=0)
    if "modules_to_save" in kind and "embed_tokens" not in kind["modules_to_save"]:
        assert all(layer.is_packed for layer in model.modules() if type(layer) is PackedLinear)
    for name in reversed(order):
        adapters.activate(name)
        adapters.unload(name)
        adapters.activate(None)
        assert torch.equal(log_probabilities(model), plain)
    assert set(model.state_dict()) == names


def test_a_rejected_adapter_leaves_no_saved_module_in_the_base(base: Path, tmp_path: Path) -> None:
    adapter = trained(tmp_path / "adapter", base, modules_to_save=["lm_head", "embed_tokens"])
    file = adapter / "adapter_model.safetensors"
    content = load_file(file)
    del content[next(key for key in content if "lora_A" in key)]
    save_file(content, file, {"format": "pt"})
    model = packed(AutoModelForCausalLM.from_pretrained(base))
    plain = log_probabilities(model)
    with pytest.raises(ApiError, match="missing"):
        Adapters(model).load("the_kind", adapter)
    assert torch.equal(log_probabilities(model), plain)
