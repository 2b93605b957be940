"""The zoo: healthy adapters of many kinds and architectures pass every check, sick ones fail theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import SmokeSettings, Workspace, smoke_test
from nbtoolkit.serving.fingerprint import judge
from nbtoolkit.smoke.check import Check, registered_checks
from nbtoolkit.smoke.model_level.__main__ import register_checks
from tests.support.model_checks import model_context
from tests.support.sick_adapters import Spoil, config_with, tensors, write
from tests.support.tiny_models import MIXTURE_OF_EXPERTS, tiny_adapter, tiny_base

pytestmark = pytest.mark.filterwarnings("ignore")  # peft calls what transformers deprecated
MODEL_CHECKS = ("A3", "A4", "G1", "G2", "G3", "G4")


@dataclass(frozen=True)
class Animal:
    """An adapter of the zoo; ``vllm`` is its A7 verdict for that engine."""

    architecture: str = "llama"
    lora: Mapping[str, Any] = field(default_factory=dict[str, Any])
    spoil: Spoil | None = None
    vllm: str = "pass"


HEALTHY = {
    "Llama": Animal(),
    "Phi-3": Animal("phi3"),
    "Qwen2": Animal("qwen2"),
    "Qwen3": Animal("qwen3"),
    "Mistral": Animal("mistral"),
    "Gemma": Animal("gemma"),
    "Gemma 3": Animal("gemma3"),
    "GPT-2": Animal("gpt2"),
    "mixture of experts": Animal(MIXTURE_OF_EXPERTS),
    "experts as parameters": Animal(
        MIXTURE_OF_EXPERTS, {"target_parameters": ["mlp.experts.down_proj"]}, vllm="warn"
    ),
    "rsLoRA": Animal(lora={"use_rslora": True}),
    "DoRA": Animal(lora={"use_dora": True}, vllm="fail"),
    "rank 1": Animal(lora={"rank": 1}),
    "high rank": Animal("phi3", {"rank": 80}, vllm="warn"),
    "embedding and head": Animal(lora={"targets": ("q_proj", "embed_tokens", "lm_head")}),
    "saved head": Animal(lora={"modules_to_save": ["lm_head"]}, vllm="fail"),
    "saved norms": Animal("qwen2", {"modules_to_save": ["norm"]}, vllm="fail"),
    "trained tokens": Animal(lora={"trainable_token_indices": [1, 2]}, vllm="fail"),
    "biases of the LoRA": Animal(lora={"lora_bias": True}, vllm="fail"),
    "patterns": Animal(
        lora={"rank_pattern": {r"layers\.1\.self_attn\.q_proj": 8}, "alpha_pattern": {"v_proj": 4}}
    ),
    "two layers": Animal(lora={"layers_to_transform": [1, 3], "layers_pattern": "layers"}),
    "float16": Animal("mistral", spoil=lambda folder: write(folder, half(folder))),
    "ms-swift": Animal("qwen2", spoil=config_with(lora_dtype="bfloat16", lorap_lr_ratio=16.0)),
}


def half(folder: Path) -> dict[str, Any]:
    return {name: value.astype("float16") for name, value in tensors(folder).items()}


def scaled(factor: float) -> Spoil:
    """Multiply every B, and with it the adapter's effect."""

    def spoil(folder: Path) -> None:
        content = tensors(folder)
        write(
            folder, {name: value * factor if "lora_B" in name else value for name, value in content.items()}
        )

    return spoil


SICK = {
    "effect below the noise": (Animal(spoil=scaled(1e-9)), "G2"),
    "layers that the base lacks": (Animal(lora={"trained_on": {"layers": 6}}), "A4"),
    "wider than the base": (Animal("qwen2", {"trained_on": {"hidden": 48}}), "A4"),
    "another architecture's": (Animal(lora={"trained_on": {"architecture": "gpt2"}}), "A4"),
    "overflow": (Animal(spoil=scaled(1e38)), "G2"),
}
"""What only the model level finds; test_static_level.py has the adapters that the static level finds."""


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a tiny base, which is written once."""
    root = tmp_path_factory.mktemp("zoo")

    def base(**options: Any) -> Path:
        folder = root / "-".join(map(str, options.values()))
        return folder if folder.exists() else tiny_base(folder, **options)

    return base


def examine(animal: Animal, base_of: Callable[..., Path], root: Path) -> list[Check]:
    """Run the static and the model level in this process; return all checks."""
    from nbtoolkit.smoke.model_level.fingerprints import take_fingerprint

    base = base_of(architecture=animal.architecture)
    lora = {"alpha": 2, **animal.lora}
    trained_on = base_of(**{"architecture": animal.architecture, **lora.pop("trained_on", {})})
    adapter = tiny_adapter(root / "adapter", trained_on, **lora)
    if animal.spoil:
        animal.spoil(adapter)
    settings = SmokeSettings(adapter=adapter, base=str(base), levels=("static",), answer_tokens=16)
    report = smoke_test(settings, workspace=Workspace(root))
    checks = list(report.checks)
    register_checks()
    context = model_context(base, adapter, answer_tokens=16)
    for one in registered_checks("model"):
        if one.id in MODEL_CHECKS and not report.failed and not any(c.verdict == "fail" for c in checks):
            checks.append(one(context))
    if not any(one.verdict == "fail" for one in checks):
        fingerprint = take_fingerprint(context)
        assert judge(fingerprint, [probe.adapter for probe in fingerprint.probes]), (
            "the noise hides the adapter"
        )
    return checks


@pytest.mark.parametrize("animal", HEALTHY.values(), ids=HEALTHY)
def test_healthy_adapter_passes_every_check(
    animal: Animal, base_of: Callable[..., Path], workspace_root: Path
) -> None:
    checks = examine(animal, base_of, workspace_root)
    assert {one.id for one in checks} >= {"A1", "A2", "A6", "A7", *MODEL_CHECKS}
    bad = [f"{one.id} {one.summary}" for one in checks if one.verdict in ("fail", "warn")]
    assert not bad
    rules = next(one for one in checks if one.id == "A7")
    assert rules.evidence["verdicts"] == {"transformers": "pass", "vllm": animal.vllm}


@pytest.mark.parametrize(("animal", "id"), SICK.values(), ids=SICK)
def test_sick_adapter_fails_its_check(
    animal: Animal, id: str, base_of: Callable[..., Path], workspace_root: Path
) -> None:
    failed = [one for one in examine(animal, base_of, workspace_root) if one.verdict == "fail"]
    assert [one.id for one in failed] == [id]
    assert failed[0].remedy
