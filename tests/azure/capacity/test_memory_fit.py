"""The estimate of a model's memory on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES
from nbtoolkit.azure.capacity.memory_fit import advice, estimate_fit
from tests.support.model_folders import sized_base


def test_memory_counts_weights_conversations_and_runtime(tmp_path: Path) -> None:
    base = sized_base(tmp_path / "b8", 4096, 40)  # 8.2 billion weights
    plain, packed = (
        estimate_fit(base, GPU_PROFILES["A100"], "none"),
        estimate_fit(base, GPU_PROFILES["A100"], "nf4"),
    )
    assert plain.weights == base.weight_bytes
    assert packed.weights < 0.3 * plain.weights
    assert plain.token_bytes == 2 * 40 * 8 * 128 * 2
    assert plain.has_headroom
    assert plain.load_seconds == pytest.approx(base.weight_bytes / (60 * 1024**2))
    assert "GPU memory" in str(plain)


@pytest.mark.parametrize(
    ("hidden", "layers", "machine", "quantization", "fits", "help_"),
    [
        (4096, 40, "T4", "none", False, "quantization nf4"),
        (4096, 40, "T4", "nf4", True, ""),
        (8192, 80, "A100", "none", False, "quantization nf4"),
        (8192, 80, "T4", "nf4", False, "GPU A100"),
        (16384, 80, "A100", "nf4", False, "smaller base model"),
        (4096, 40, "none", "none", False, "GPU A100"),
        (576, 30, "none", "none", True, ""),
    ],
)
def test_advice_for_a_model_that_does_not_fit(
    tmp_path: Path, hidden: int, layers: int, machine: str, quantization: Any, fits: bool, help_: str
) -> None:
    base = sized_base(tmp_path / "base", hidden, layers)
    assert estimate_fit(base, GPU_PROFILES[machine], quantization).fits is fits
    assert help_ in advice(base, GPU_PROFILES[machine], quantization)
