"""Where the model level runs: the GPU if there is one that works, else the CPU, and then it says why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nbtoolkit.serving.dtype import cpu_has_bfloat16


@dataclass(frozen=True)
class Device:
    """A device of torch; ``problem`` tells why a GPU that is there is not used."""

    kind: str
    name: str
    has_bfloat16: bool
    problem: str = ""


def choose(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Device:
    """Return the GPU if it computes, else the CPU with the reason where the machine has a GPU.

    A GPU that ``CUDA_VISIBLE_DEVICES`` hides is not there: somebody chose so.
    """
    if torch.cuda.is_available():
        try:
            torch.ones(2, device="cuda").sum().item()
        except RuntimeError as error:
            return _cpu(f"the GPU refuses to compute: {str(error).splitlines()[0]}")
        modern = torch.cuda.get_device_capability() >= (8, 0)
        return Device("cuda", torch.cuda.get_device_name(), modern)
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not _has_gpu(root):
        return _cpu("")
    if torch.version.cuda is None:
        return _cpu("there is a GPU, but this torch is built without CUDA")
    return _cpu(f"there is a GPU, but no driver that this torch (CUDA {torch.version.cuda}) can use")


def _cpu(problem: str) -> Device:
    return Device("cpu", f"CPU, {torch.get_num_threads()} threads", cpu_has_bfloat16(), problem)


def _has_gpu(root: Path) -> bool:
    return any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()
