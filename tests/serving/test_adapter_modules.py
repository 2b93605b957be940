"""Which adapters one model cannot hold side by side: the rule agrees with peft, before anything is sent."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import Adapter
from nbtoolkit.serving.adapter_modules import adapted_modules, conflict
from nbtoolkit.serving.openai_format import ApiError
from tests.support.tiny_models import tiny_adapter, tiny_base

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")
IDS = [[3, 1, 4, 1, 5, 9, 2, 6]]

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"targets": ("q_proj", "v_proj")},
    "biased": {"targets": ("q_proj",), "lora_bias": True},
    "saved head": {"targets": ("q_proj",), "modules_to_save": ["lm_head"]},
    "head": {"targets": ("q_proj", "lm_head")},
    "saved embedding": {"targets": ("q_proj",), "modules_to_save": ["embed_tokens"]},
    "tokens": {"targets": ("q_proj",), "trainable_token_indices": [3, 1]},
    "other tokens": {"targets": ("k_proj",), "trainable_token_indices": [5]},
    "one parameter": {"targets": ("v_proj",), "target_parameters": ["q_proj.weight"]},
    "two parameters": {"targets": ("v_proj",), "target_parameters": ["q_proj.weight", "k_proj.weight"]},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("modules")
    base = tiny_base(root / "base", layers=1)
    return {"base": base, **{kind: tiny_adapter(root / kind, base, **lora) for kind, lora in KINDS.items()}}


def modules(folder: Path) -> dict[str, str]:
    adapter = Adapter.read(folder)
    return adapted_modules(adapter.config, adapter.tensors)


def engine(folders: dict[str, Path]) -> Any:
    from transformers import AutoModelForCausalLM

    from nbtoolkit.serving.engines.transformers.adapters import Adapters

    model = AutoModelForCausalLM.from_pretrained(folders["base"]).eval().requires_grad_(False)
    return model, Adapters(model)


def answer(model: Any, adapters: Any, name: str | None) -> Any:
    adapters.activate(name)
    with torch.inference_mode():
        return model(input_ids=torch.tensor(IDS)).logits


def alone(folders: dict[str, Path], kind: str) -> Any:
    model, adapters = engine(folders)
    if kind != "base":
        adapters.load("it", folders[kind])
    return answer(model, adapters, None if kind == "base" else "it")


def test_what_has_no_conflict_is_served_right_side_by_side_and_after_an_unload(
    folders: dict[str, Path],
) -> None:
    right = {kind: alone(folders, kind) for kind in folders}
    tried = 0
    for first, second in permutations(KINDS, 2):
        if conflict(modules(folders[first]), modules(folders[second])):
            continue
        tried += 1
        model, adapters = engine(folders)
        adapters.load("first", folders[first])
        adapters.load("second", folders[second])
        for name, kind in (("first", first), ("second", second), (None, "base")):
            torch.testing.assert_close(
                answer(model, adapters, name), right[kind], msg=f"{kind}: {first}, {second}"
            )
        adapters.unload("first")
        torch.testing.assert_close(answer(model, adapters, "second"), right[second])
    assert tried == 20


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("plain", "one parameter"),
        ("one parameter", "two parameters"),
        ("saved head", "head"),
        ("head", "saved head"),
        ("tokens", "plain"),
    ],
)
def test_conflict_is_refused_by_peft(folders: dict[str, Path], first: str, second: str) -> None:
    assert conflict(modules(folders[first]), modules(folders[second]))
    _, adapters = engine(folders)
    adapters.load("first", folders[first])
    with pytest.raises(ApiError, match="not fit this base"):
        adapters.load("second", folders[second])


def test_module_can_be_wrapped_in_another_way_after_an_unload(folders: dict[str, Path]) -> None:
    model, adapters = engine(folders)
    adapters.load("old", folders["saved head"])
    adapters.load("between", folders["plain"])
    adapters.unload("old")
    adapters.load("new", folders["head"])
    torch.testing.assert_close(answer(model, adapters, "new"), alone(folders, "head"))
    torch.testing.assert_close(answer(model, adapters, None), alone(folders, "base"))


def test_modules_of_nested_parameter_wrappers_are_named() -> None:
    config = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    keys = [
        "base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight",
        "base_model.model.model.layers.0.mlp.experts.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
    ]
    kind = "parameters mlp.experts.down_proj, mlp.experts.gate_up_proj"
    assert adapted_modules(config, keys) == {"embed_tokens": "lora", "experts": kind, "q_proj": "lora"}
