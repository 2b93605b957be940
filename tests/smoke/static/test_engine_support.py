"""A7: the table of engine rules, on adapters that peft wrote; the evidence has a verdict for every engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import DeploySettings, SmokeSettings, Workspace, smoke_test
from nbtoolkit.serving.engine_rules import EngineInput, findings
from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.report import SmokeReport
from nbtoolkit.smoke.static.adapter_config import peft_key_table
from tests.support.tiny_models import tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore")
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "peft_type": "LORA", "bias": "none"}
PEFT_KEYS = frozenset().union(*peft_key_table().values())


def verdicts(*, keys: tuple[str, ...] = (), **config: Any) -> tuple[str, str]:
    """Return the verdicts of transformers and of vLLM on a configuration."""
    subject = EngineInput({**LORA, **config}, keys, peft_keys=PEFT_KEYS)
    found = [findings(subject, engine) for engine in ("transformers", "vllm")]
    return found[0][0].verdict if found[0] else "pass", found[1][0].verdict if found[1] else "pass"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, ("fail", "fail")),
        ({"init_lora_weights": "OLoRA"}, ("fail", "fail")),
        ({"init_lora_weights": "corda"}, ("fail", "fail")),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, ("fail", "fail")),
        ({"init_lora_weights": "lora_ga"}, ("fail", "fail")),
        ({"kasa_config": {"beta": 1}}, ("fail", "fail")),
        ({"layer_replication": [[0, 2], [1, 3]]}, ("fail", "fail")),
        ({"alora_invocation_tokens": [1, 2]}, ("fail", "fail")),
        ({"bias": "all"}, ("pass", "fail")),
        ({"bias": "all", "keys": ("base_model.model.model.layers.0.mlp.up_proj.bias",)}, ("fail", "fail")),
        ({"use_dora": True}, ("pass", "fail")),
        ({"lora_bias": True}, ("pass", "fail")),
        ({"modules_to_save": ["lm_head"]}, ("pass", "fail")),
        ({"modules_to_save": ["score"]}, ("pass", "pass")),
        ({"trainable_token_indices": [3]}, ("pass", "fail")),
        ({"target_parameters": ["q_proj.weight"]}, ("pass", "fail")),
        ({"target_parameters": ["mlp.experts.down_proj"]}, ("pass", "warn")),
        ({"use_qalora": True}, ("pass", "fail")),
        ({"arrow_config": {"top_k": 3}}, ("pass", "fail")),
        ({"keys": ("base_model.model.model.embed_tokens.weight",)}, ("pass", "fail")),
        ({"keys": ("base_model.model.model.embed_tokens.base_layer.weight",)}, ("pass", "pass")),
        ({"rank_pattern": {"q_proj": 600}}, ("pass", "fail")),
        ({"r": 128}, ("pass", "warn")),
        # what a saved plain LoRA may have
        (
            {"r": 9, "use_rslora": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q": 3}},
            ("pass", "pass"),
        ),
        (
            {"init_lora_weights": "gaussian", "lora_dropout": 0.1, "layers_to_transform": [0]},
            ("pass", "pass"),
        ),
        ({"init_lora_weights": "eva", "eva_config": {"rho": 2.0}, "exclude_modules": "x"}, ("pass", "pass")),
        ({"target_modules": "all-linear", "lorap_emb_lr": 1e-6, "qalora_group_size": 16}, ("pass", "pass")),
    ],
)
def test_verdict_of_each_engine(config: dict[str, Any], expected: tuple[str, str]) -> None:
    assert verdicts(**config) == expected


def test_nf4_and_gpus_are_in_the_same_table() -> None:
    def names(engine: Any, **settings: Any) -> list[str]:
        return [f"{one.rule.name}: {one.verdict}" for one in findings(EngineInput(LORA, **settings), engine)]

    assert names("vllm", quantization="nf4", gpu="T4") == ["quantization: fail", "GPU T4: warn"]
    assert names("vllm", gpu="none") == ["gpu: fail"]
    assert names("transformers", quantization="nf4", gpu="T4") == []
    assert names("transformers", quantization="nf4", gpu="none") == ["quantization without a GPU: fail"]


def test_keys_of_a_text_model_on_a_multimodal_base_reach_nothing_in_vllm() -> None:
    keys = ["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"]
    subject = EngineInput(LORA, keys, base_config={"text_config": {"vocab_size": 8}})
    assert [one.rule.name for one in findings(subject, "vllm")] == [
        "keys under model.layers of a multimodal base"
    ]
    assert findings(subject, "transformers") == []


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("engine-support")
    base = tiny_base(root / "base", "qwen2", layers=1)
    tiny_adapter(root / "plain", base)
    tiny_adapter(root / "dora", base, use_dora=True)
    tiny_adapter(root / "bias", base, bias="lora_only")
    return root


def smoke(folders: Path, workspace_root: Path, name: str, **settings: Any) -> tuple[SmokeReport, Check]:
    options: Any = {"adapter": str(folders / name), "levels": ("static",), "reuse": False, **settings}
    chosen = SmokeSettings(base=str(folders / "base"), **options)
    report = smoke_test(chosen, workspace=Workspace(workspace_root))
    return report, next(one for one in report.checks if one.id == "A7")


def test_the_check_decides_for_the_chosen_engine_and_shows_all(folders: Path, workspace_root: Path) -> None:
    report, check = smoke(folders, workspace_root, "dora")
    assert check.verdict == "pass"
    assert check.evidence["verdicts"] == {"transformers": "pass", "vllm": "fail"}
    assert "vllm does not: use_dora" in check.summary
    assert report.recommended_settings == {}
    report, check = smoke(folders, workspace_root, "dora", engine="vllm")
    assert check.verdict == "fail"
    assert check.remedy.startswith("choose the engine transformers")
    assert report.recommended_settings == {"engine": "transformers"}


def test_recommended_settings_are_taken_over_by_one_call(folders: Path, workspace_root: Path) -> None:
    report, _ = smoke(folders, workspace_root, "dora", engine="vllm", dtype="bfloat16", gpu="T4")
    assert report.recommended_settings == {"engine": "transformers", "dtype": "float16"}
    settings = SmokeSettings(adapter="a", base="b", engine="vllm", dtype="bfloat16", norm_warn=2)
    changed = report.apply_to(settings)
    assert (changed.engine, changed.dtype, changed.norm_warn) == ("transformers", "float16", 2)
    deploy = report.apply_to(DeploySettings(adapters={"a": "a"}, base="b", dtype="bfloat16"))
    assert (deploy.dtype, list(deploy.adapters)) == ("float16", ["a"])


def test_saved_biases_are_refused_before_anything_is_loaded(folders: Path, workspace_root: Path) -> None:
    report, check = smoke(folders, workspace_root, "bias")
    assert [one.id for one in report.failed] == ["A7"]
    assert "every other answer of this base" in check.summary
    assert 'bias="none"' in check.remedy


def test_vllm_is_never_proven_by_the_transformers_engine(folders: Path, workspace_root: Path) -> None:
    levels = ("static", "contract")
    report, check = smoke(folders, workspace_root, "plain", engine="vllm", levels=levels)
    assert check.verdict == "pass"
    assert {one.verdict for one in report.checks if one.level == "contract"} == {"undecided"}
    assert "G7 is undecided" in report.open
    assert not report.green


def test_tensors_that_replace_the_bases_are_refused_by_the_engine(folders: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from nbtoolkit.serving.engines.transformers.adapters import Adapters
    from nbtoolkit.serving.openai_format import ApiError

    adapter = tiny_adapter(tmp_path / "adapter", folders / "base")
    file = adapter / "adapter_model.safetensors"
    head = "base_model.model.model.embed_tokens.weight"
    for noise, refused in ((0.0, False), (0.1, True)):
        model: Any = AutoModelForCausalLM.from_pretrained(folders / "base").requires_grad_(False)
        own = model.get_input_embeddings().weight.clone()
        save_file({**load_file(file), head: own + noise * torch.randn_like(own)}, file, {"format": "pt"})
        if refused:
            with pytest.raises(ApiError, match="changes 1 tensors of the base itself"):
                Adapters(model).load("it", adapter)
        else:
            Adapters(model).load("it", adapter)
        assert torch.equal(model.get_input_embeddings().weight, own)


def test_the_engine_refuses_by_the_same_table(folders: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from nbtoolkit.serving.engines.transformers.adapters import Adapters
    from nbtoolkit.serving.openai_format import ApiError

    adapter = tiny_adapter(tmp_path / "adapter", folders / "base")
    config = json.loads((adapter / "adapter_config.json").read_text())
    changed = {**config, "kasa_config": {"beta": 0.0001, "gamma": 0.001}}
    (adapter / "adapter_config.json").write_text(json.dumps(changed))
    with pytest.raises(ApiError, match=r"kasa_config = .*merge it into the base"):
        Adapters(AutoModelForCausalLM.from_pretrained(folders / "base")).load("it", adapter)
