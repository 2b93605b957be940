"""A8: weights, adapter and KV cache against the memory of a GPU profile, from headers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbtoolkit import SmokeSettings
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.safetensors_header import TensorInfo
from nbtoolkit.smoke.check import CheckOutcome, SmokeContext
from nbtoolkit.smoke.static.memory_fit import memory_fit


def sized_base(billions: float, length: int = 4096, heads: int = 8) -> Base:
    """A base with the given number of parameters and 128 KiB of KV cache per token, as Llama 3 8B has."""
    config = {
        "torch_dtype": "bfloat16",
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": heads,
        "head_dim": 128,
        "max_position_embeddings": length,
    }
    rows = round(billions * 1e9 / 4096)
    tensor = TensorInfo("BF16", (rows, 4096), 0, rows * 4096 * 2)
    return Base(Path("base"), "base", config, {}, {"model.layers.0.mlp.up_proj.weight": tensor}, ())


def outcome(base: Base, tmp_path: Path, **settings: Any) -> CheckOutcome:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8}))
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    context = SmokeContext(tmp_path, base, SmokeSettings(adapter=str(tmp_path), base="x", **settings))
    assert isinstance(context.adapter, Adapter)
    return memory_fit.run(context)


def test_without_a_gpu_profile_it_is_skipped_with_the_reason(tmp_path: Path) -> None:
    found = outcome(sized_base(8), tmp_path)
    assert (found.verdict, "no gpu is chosen" in found.summary) == ("skipped", True)


@pytest.mark.parametrize(
    ("billions", "length", "settings", "verdict", "recommended"),
    [
        (8, 4096, {"gpu": "A100"}, "pass", {}),
        # a context of 128k that nobody asked for is not promised to 16 answers at once
        (8, 131_072, {"gpu": "A100"}, "warn", {"max_model_len": 16_384}),
        (8, 131_072, {"gpu": "A100", "max_model_len": 131_072}, "fail", {"max_model_len": 16_384}),
        (8, 4096, {"gpu": "A100", "max_model_len": 2048, "max_concurrency": 4}, "pass", {}),
        (8, 4096, {"gpu": "T4"}, "fail", {"gpu": "A100"}),
        (20, 4096, {"gpu": "T4"}, "fail", {"gpu": "A100"}),
        (8, 1024, {"gpu": "T4"}, "fail", {"quantization": "nf4"}),
        (6, 4096, {"gpu": "T4", "quantization": "nf4"}, "warn", {"max_model_len": 2048}),
        (60, 1024, {"gpu": "A100"}, "fail", {"quantization": "nf4"}),
        (60, 1024, {"gpu": "A100", "engine": "vllm"}, "fail", {}),
        (60, 1024, {"gpu": "T4"}, "fail", {"gpu": "A100", "quantization": "nf4"}),
        (400, 1024, {"gpu": "A100"}, "fail", {}),
        (1, 1024, {"gpu": "T4", "dtype": "bfloat16"}, "fail", {"dtype": "float16"}),
        (1, 1024, {"gpu": "A100", "dtype": "bfloat16"}, "pass", {}),
    ],
)
def test_what_fits_and_what_would(
    tmp_path: Path, billions: float, length: int, settings: Any, verdict: str, recommended: dict[str, Any]
) -> None:
    found = outcome(sized_base(billions, length), tmp_path, **settings)
    assert (found.verdict, found.recommended) == (verdict, recommended)
    assert found.verdict == "pass" or found.remedy


def test_parts_add_up_in_the_evidence(tmp_path: Path) -> None:
    found = outcome(sized_base(8), tmp_path, gpu="A100", max_model_len=1024, max_concurrency=8)
    facts = found.evidence
    assert facts["weights"] == pytest.approx(8e9 * 2 / 1024**3, rel=1e-3)
    assert facts["cache"] == 1.0
    total = facts["weights"] + facts["adapter"] + facts["cache"]
    assert facts["required"] == pytest.approx(1.1 * total, rel=1e-3)
    assert facts["share"] == pytest.approx(facts["required"] / facts["available"], rel=1e-3)
