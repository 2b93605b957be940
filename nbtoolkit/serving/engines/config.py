"""The settings that the gateway passes to an engine at its start, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _ConfigModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseModelFolder(_ConfigModel):
    """The base model: its public name and its folder."""

    name: str
    path: Path


class EngineConfig(_ConfigModel):
    """Settings of an engine process; constant while it runs."""

    port: int = Field(default=0, ge=0, le=65535)
    """The loopback port, which the gateway chooses when it starts the process."""
    base: BaseModelFolder
    tokenizer_path: Path
    chat_template: str | None = None
    """Used instead of the tokenizer folder's own template."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    max_model_len: int | None = Field(default=None, ge=16)
    """Tokens of prompt and answer together; None for the model's limit."""
    max_batch: int = Field(default=16, ge=1, le=256)
    network_mount: bool = False
    """Read weights without mmap, which is slow and can hang on a network share."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
