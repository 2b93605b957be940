"""The dtype that the engine computes in, shared by server and smoke test."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

Dtype = Literal["float32", "bfloat16", "float16"]
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def serving_dtype(requested: str, *, device: str, saved: object, has_bfloat16: bool) -> Dtype:
    """Return the dtype to serve in, for a request of ``auto`` or a named one.

    ``device`` is ``cpu`` or ``cuda``, ``saved`` the base model's own dtype (torch's, its name, or None),
    ``has_bfloat16`` whether the device has native bfloat16: a T4 has not, and a CPU that emulates it is
    slower than in float32. ``auto`` is the base's own dtype if the device is fast at it.
    """
    if requested != "auto":
        return cast("Dtype", requested)
    name = str(saved).removeprefix("torch.")
    own: Dtype = name if name in ("float32", "bfloat16", "float16") else "float32"
    if device == "cpu":
        return "bfloat16" if own == "bfloat16" and has_bfloat16 else "float32"
    return "float16" if own == "bfloat16" and not has_bfloat16 else own


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware; False if /proc/cpuinfo is missing."""
    if not cpuinfo.is_file():
        return False
    return not _CPU_FLAGS.isdisjoint(cpuinfo.read_text(encoding="ascii", errors="ignore").split())
