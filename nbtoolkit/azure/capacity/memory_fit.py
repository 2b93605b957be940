"""Estimate whether a base model fits on a GPU, and how long it loads from the share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from nbtoolkit.azure.capacity.gpu_profiles import GPU_PROFILES, GpuProfile
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.serving.dtype import serving_dtype

Quantization = Literal["none", "nf4"]

GIB = 1024**3
SHARE_SPEED = 60 * 1024**2
"""Bytes per second of a standard file share with default settings."""
RECOMMENDED_TOKENS = 8_192
"""Tokens of running conversations, in total, for which there should be memory."""
MIN_TOKENS = 1_024
"""Tokens of running conversations, in total, below which serving is of no use."""
GPU_OVERHEAD = 2 * GIB
"""CUDA, activations and adapters."""
CPU_OVERHEAD = GIB
"""Without a GPU: Python, libraries and the operating system."""

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # 4 bits per weight, and scales that are quantized themselves
_NOT_QUANTIZED = ("embed", "lm_head", "norm", "wte", "wpe")


@dataclass(frozen=True)
class MemoryFit:
    """The memory that a base needs on a GPU profile, in bytes; ``available`` is what the profile has.

    ``token_bytes`` is the KV cache of one token of a running conversation, ``stored_bytes`` the size of the
    weights on the share.
    """

    base: str
    profile: GpuProfile
    quantization: Quantization
    weights: int
    token_bytes: int
    overhead: int
    available: int
    stored_bytes: int

    @property
    def required(self) -> int:
        """Bytes with the recommended number of tokens."""
        return self._with_tokens(RECOMMENDED_TOKENS)

    @property
    def fits(self) -> bool:
        """Return whether the base can be served at all."""
        return self._with_tokens(MIN_TOKENS) <= self.available

    @property
    def has_headroom(self) -> bool:
        """Return whether there is memory for long or several conversations too."""
        return self.required <= self.available

    @property
    def max_tokens(self) -> int:
        """Tokens of conversations for which there is memory; 0 if even the weights do not fit."""
        return max(0, self.available - self.weights - self.overhead) // max(1, self.token_bytes)

    @property
    def load_seconds(self) -> float:
        """Seconds to read the weights from the share, at least."""
        return self.stored_bytes / SHARE_SPEED

    def _with_tokens(self, tokens: int) -> int:
        return self.weights + tokens * self.token_bytes + self.overhead

    def __str__(self) -> str:
        memory = "GPU memory" if self.profile.has_gpu else "memory"
        return (
            f"{self.base} ({self.quantization}) needs {_gib(self.required)} of {_gib(self.available)} "
            f"{memory}: weights {_gib(self.weights)}, "
            f"conversations {_gib(RECOMMENDED_TOKENS * self.token_bytes)}, runtime {_gib(self.overhead)}"
        )


def estimate_fit(
    base: Base, profile: GpuProfile, quantization: Quantization, requested_dtype: str = "auto"
) -> MemoryFit:
    """Return the memory that ``base`` needs on ``profile``, computed from its configuration and headers."""
    saved = (
        _text_config(base.config).get("dtype") or base.config.get("dtype") or base.config.get("torch_dtype")
    )
    dtype = serving_dtype(
        requested_dtype,
        device="cuda" if profile.has_gpu else "cpu",
        saved=saved,
        has_bfloat16=profile.has_bfloat16,
    )
    dtype_bytes = _DTYPE_BYTES[dtype]
    weights = 0.0
    for name, tensor in base.tensors.items():
        quantized = (
            quantization == "nf4"
            and len(tensor.shape) == 2
            and not any(part in name for part in _NOT_QUANTIZED)
        )
        weights += prod(tensor.shape) * (_NF4_BYTES if quantized else dtype_bytes)
    return MemoryFit(
        base=base.name,
        profile=profile,
        quantization=quantization,
        weights=int(weights),
        token_bytes=kv_bytes(base.config, dtype_bytes),
        overhead=GPU_OVERHEAD if profile.has_gpu else CPU_OVERHEAD,
        available=int((profile.vram if profile.has_gpu else profile.memory) * GIB),
        stored_bytes=base.weight_bytes,
    )


def kv_bytes(config: Mapping[str, Any], dtype_bytes: int) -> int:
    """Return the KV cache's bytes per token; 0 if the configuration lacks the sizes."""
    text = {**config, **_text_config(config)}
    layers = _int(text, "num_hidden_layers", "n_layer")
    heads = _int(text, "num_attention_heads", "n_head")
    hidden = _int(text, "hidden_size", "n_embd")
    head_dim = _int(text, "head_dim") or (hidden // heads if heads else 0)
    return 2 * layers * (_int(text, "num_key_value_heads") or heads) * head_dim * dtype_bytes


def advice(base: Base, profile: GpuProfile, quantization: Quantization) -> str:
    """Return what to choose instead if a base does not fit."""
    if profile.has_gpu and quantization == "none" and (nf4 := estimate_fit(base, profile, "nf4")).fits:
        return f"choose quantization nf4, which needs {_gib(nf4.required)}"
    if profile.name != "A100":
        for candidate in ("none", "nf4") if quantization == "none" else ("nf4",):
            if estimate_fit(base, GPU_PROFILES["A100"], candidate).fits:
                return "choose the GPU A100" + (" and quantization nf4" if candidate == "nf4" else "")
    return "choose a smaller base model: one GPU serves a replica here"


def check_memory(
    base: Base, profile: GpuProfile, quantization: Quantization, *, override: bool, progress: Progress
) -> None:
    """Raise :class:`InvalidSettings` if the base does not fit; with ``override`` only report it."""
    fit = estimate_fit(base, profile, quantization)
    if fit.has_headroom:
        return
    estimate, step = f"{fit}, on {profile.label}", advice(base, profile, quantization)
    if fit.fits or override:
        progress.note(f"{estimate}: long or many chats have to wait, or run out of memory; {step}")
        return
    raise InvalidSettings(
        f"The base model does not fit: {estimate}.",
        next_step=f"{step}; or give override_reason if this estimate is wrong",
    )


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("text_config")
    return found if isinstance(found, dict) else {}


def _int(config: Mapping[str, Any], *names: str) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int), 0)
