"""Inference engines, each a child process with an OpenAI API on loopback; the gateway is their client."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from ..chat_template import Templates
from ..release import EngineSettings, ReleaseModel


class BaseModelFolder(ReleaseModel):
    """The base model: its public name and its folder."""

    name: str
    path: Path


class EngineConfig(EngineSettings):
    """What the gateway passes to an engine process at its start, as JSON; constant while it runs."""

    port: int = Field(default=0, ge=0, le=65535)
    """The loopback port, which the gateway chooses when it starts the process."""
    base: BaseModelFolder
    tokenizer_path: Path
    chat_template: Templates | None = None
    """Used instead of the tokenizer folder's own template."""
    network_mount: bool = False
    """Read weights without mmap, which is slow and can hang on a network share."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
