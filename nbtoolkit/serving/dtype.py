"""One rule for the precision that serves, so that the smoke test measures what the engine will run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

Dtype = Literal["float32", "bfloat16", "float16"]
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def serving_dtype(requested: str, *, device: str, saved: str | None, has_bfloat16: bool) -> Dtype:
    """Return the precision for a request of ``auto`` or a named one.

    ``device`` is ``cpu`` or ``cuda``, ``saved`` the precision that the base model's configuration names,
    ``has_bfloat16`` whether the device computes in bfloat16 by itself: a T4 does not, and a CPU that must
    emulate it is slower than in float32. ``auto`` is the base's own precision where the device is fast at it.
    """
    if requested != "auto":
        return cast("Dtype", requested)
    own: Dtype = saved if saved in ("float32", "bfloat16", "float16") else "float32"
    if device == "cpu":
        return "bfloat16" if own == "bfloat16" and has_bfloat16 else "float32"
    return "float16" if own == "bfloat16" and not has_bfloat16 else own


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether this CPU multiplies bfloat16 in hardware; False where the system does not say."""
    if not cpuinfo.is_file():
        return False
    return not _CPU_FLAGS.isdisjoint(cpuinfo.read_text(encoding="ascii", errors="ignore").split())
