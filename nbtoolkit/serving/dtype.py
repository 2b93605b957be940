"""One rule for the precision that serves, so that the smoke test measures what the engine will run."""

from __future__ import annotations

from typing import Literal, cast

Dtype = Literal["float32", "bfloat16", "float16"]


def serving_dtype(requested: str, *, device: str, saved: str | None, has_bfloat16: bool) -> Dtype:
    """Return the precision for a request of ``auto`` or a named one.

    ``device`` is ``cpu`` or ``cuda``, ``saved`` the precision that the base model's configuration names,
    ``has_bfloat16`` whether the GPU computes in bfloat16 (a T4 does not). On a CPU ``auto`` is float32:
    half precision is rarely faster there, and its text depends on the batch.
    """
    if requested != "auto":
        return cast("Dtype", requested)
    if device == "cpu":
        return "float32"
    if saved == "float16" or not has_bfloat16:
        return "float16"
    return "bfloat16"
