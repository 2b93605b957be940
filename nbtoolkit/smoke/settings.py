"""The settings of the smoke test; every threshold has a default and can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from nbtoolkit.models.hub import ModelPath
from nbtoolkit.settings import Settings

Level = Literal["static", "model", "contract"]
LEVELS: tuple[Level, ...] = ("static", "model", "contract")


class SmokeSettings(Settings):
    """Adapter, base, levels to run, and the thresholds at which a check warns or fails.

    >>> settings = SmokeSettings(adapter="adapters/tone", base="models/base", levels=["model", "static"])
    >>> settings.levels, settings.effect_fail
    (('static', 'model'), 3.0)
    """

    adapter: ModelPath = Field(
        description="folder of the LoRA adapter; org/name@revision: on the hub; /mount/…: on the share"
    )
    base: str = Field(description="folder of the base model; /mount/…: on the share")
    levels: tuple[Level, ...] = Field(
        default=LEVELS, description="static: seconds, no torch; model: loads both; contract: the real server"
    )
    engine: Literal["transformers", "vllm"] = Field(
        default="transformers", description="the engine that will serve; vllm: its rules only (A7)"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="the precision that will serve"
    )
    quantization: Literal["none", "nf4"] = Field(default="none", description="nf4 needs CUDA")
    trained_in: Literal["auto", "nf4", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="G8: the base's precision in training; auto: its name, or the base's dtype",
    )
    gpu: Literal["A100", "T4", "dedicated-A100", "none"] | None = Field(
        default=None, title="GPU", description="A8: the GPU profile that will serve; none: 4 vCPU, 8 GiB"
    )
    max_model_len: int | None = Field(
        default=None,
        title="Longest sequence",
        ge=16,
        description="A8: longest prompt and answer together, in tokens",
    )
    max_concurrency: int = Field(
        default=16, title="Answers at once", ge=1, le=256, description="A8: answers decoded at once"
    )
    prompts: tuple[str, ...] = Field(
        default=(), description="your own prompts, in addition to the built-in ones"
    )
    golden: Path | None = Field(
        default=None, description="golden prompts, JSONL or CSV; golden.jsonl next to the adapter if not set"
    )
    effect_fail: float = Field(default=3.0, ge=0, description="G2 fails if effect ≤ this × noise")
    effect_warn: float = Field(default=10.0, ge=0, description="G2 warns if effect ≤ this × noise")
    norm_warn: float = Field(default=0.5, gt=0, description="G1 warns if ‖BA‖·s/‖W‖ is larger")
    repeat_limit: int = Field(default=16, ge=2, description="G4 fails at this many equal tokens in a row")
    unknown_share: float = Field(
        default=0.01, ge=0, le=1, description="G4 fails at a larger share of <unk> in an answer"
    )
    answer_tokens: int = Field(default=64, ge=1, le=1024, description="G4: length of the greedy answers")
    nice_warn: float = Field(
        default=0.8, ge=0, le=1, description="G5 warns if a smaller share of the nice checks passes"
    )
    max_ttft: float | None = Field(
        default=None, gt=0, description="G6: budget for the time to first token, in seconds"
    )
    min_tokens_per_second: float | None = Field(
        default=None, gt=0, description="G6: least tokens per second of one answer"
    )
    max_memory: float | None = Field(default=None, gt=0, description="G6: budget for peak memory, in GiB")
    timeout: float = Field(default=1800, gt=0, description="seconds for the model level")
    reuse: bool = Field(
        default=True, description="return the saved green report of the same bytes and settings"
    )

    @field_validator("levels", mode="after")
    @classmethod
    def _in_order(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        if "static" not in levels:
            raise ValueError("the static level always runs first; add 'static'")
        return tuple(level for level in LEVELS if level in levels)

    @property
    def result_settings(self) -> dict[str, Any]:
        """The settings that affect the result; a report is reused only if they are equal."""
        return self.model_dump(mode="json", exclude={"adapter", "base", "golden", "timeout", "reuse"})
