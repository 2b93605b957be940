"""Whether a base model fits on a GPU, and how long it takes to load from the share; a pure estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from nbtoolkit.azure.capacity.gpu_profiles import HARDWARE, Hardware
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.serving.dtype import serving_dtype

Quantization = Literal["none", "nf4"]

GIB = 1024**3
SHARE_SPEED = 60 * 1024**2
"""Bytes a second that a standard file share gives by default."""
TOKENS = 8_192
"""Tokens of running conversations, all together, that there should be room for."""
FEWEST = 1_024
"""Tokens below which serving makes no sense."""
RUNTIME = 2 * GIB
"""CUDA, activations and adapters."""
SYSTEM = GIB
"""Without a GPU: Python, libraries and the operating system."""

_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
_NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes: 4 bits, and scales that are quantized themselves
_KEPT = ("embed", "lm_head", "norm", "wte", "wpe")


@dataclass(frozen=True)
class Fit:
    """What a base needs on a machine, in bytes; ``room`` is what the machine has.

    ``token`` is what one token of a running conversation keeps, ``stored`` what lies on the share.
    """

    base: str
    hardware: Hardware
    quantization: Quantization
    weights: int
    token: int
    runtime: int
    room: int
    stored: int

    @property
    def needed(self) -> int:
        """Bytes in all."""
        return self.weights + TOKENS * self.token + self.runtime

    @property
    def fits(self) -> bool:
        """Tell whether it can serve at all."""
        return self.weights + FEWEST * self.token + self.runtime <= self.room

    @property
    def roomy(self) -> bool:
        """Tell whether there is room for long or several conversations too."""
        return self.needed <= self.room

    @property
    def tokens(self) -> int:
        """Tokens of conversations that there is room for; 0 where even the weights do not fit."""
        return max(0, self.room - self.weights - self.runtime) // max(1, self.token)

    @property
    def loading(self) -> float:
        """Seconds to read the weights from the share, at least."""
        return self.stored / SHARE_SPEED

    def __str__(self) -> str:
        what = "memory" if not self.hardware.has_gpu else "GPU memory"
        return (
            f"{self.base} ({self.quantization}) needs {_gib(self.needed)} of {_gib(self.room)} {what}: "
            f"weights {_gib(self.weights)}, conversations {_gib(TOKENS * self.token)}, "
            f"runtime {_gib(self.runtime)}"
        )


def fit(base: Base, hardware: Hardware, quantization: Quantization) -> Fit:
    """Return what ``base`` needs on ``hardware``; reads nothing but what the base's headers said."""
    saved = _text(base.config).get("dtype") or base.config.get("dtype") or base.config.get("torch_dtype")
    dtype = serving_dtype(
        "auto",
        device="cuda" if hardware.has_gpu else "cpu",
        saved=str(saved).removeprefix("torch.") if saved else None,
        has_bfloat16="A100" in hardware.name,
    )
    width = _WIDTH[dtype]
    weights = 0.0
    for name, tensor in base.tensors.items():
        packed = quantization == "nf4" and len(tensor.shape) == 2 and not any(k in name for k in _KEPT)
        weights += prod(tensor.shape) * (_NF4 if packed else width)
    return Fit(
        base=base.name,
        hardware=hardware,
        quantization=quantization,
        weights=int(weights),
        token=kv_bytes(base.config, width),
        runtime=RUNTIME if hardware.has_gpu else SYSTEM,
        room=int((hardware.vram if hardware.has_gpu else hardware.memory) * GIB),
        stored=base.weight_bytes,
    )


def kv_bytes(config: Mapping[str, Any], width: int) -> int:
    """Return the bytes that one token of a conversation keeps; 0 where the configuration does not tell."""
    text = {**config, **_text(config)}
    layers, heads = (
        _number(text, "num_hidden_layers", "n_layer"),
        _number(text, "num_attention_heads", "n_head"),
    )
    hidden = _number(text, "hidden_size", "n_embd")
    head = _number(text, "head_dim") or (hidden // heads if heads else 0)
    return 2 * layers * (_number(text, "num_key_value_heads") or heads) * head * width


def advice(base: Base, hardware: Hardware, quantization: Quantization) -> str:
    """Return what to choose instead where a base does not fit."""
    if hardware.has_gpu and quantization == "none" and (packed := fit(base, hardware, "nf4")).fits:
        return f"choose quantization nf4, which needs {_gib(packed.needed)}"
    if hardware.name != "A100":
        for wanted in ("none", "nf4") if quantization == "none" else ("nf4",):
            if fit(base, HARDWARE["A100"], wanted).fits:
                return "choose the GPU A100" + (" and quantization nf4" if wanted == "nf4" else "")
    return "choose a smaller base model: one GPU serves a replica here"


def check_memory(
    base: Base, hardware: Hardware, quantization: Quantization, *, override: bool, progress: Progress
) -> None:
    """Raise :class:`InvalidSettings` if the base does not fit; with ``override`` only note it."""
    found = fit(base, hardware, quantization)
    if found.roomy:
        return
    estimate, step = f"{found}, on {hardware.label}", advice(base, hardware, quantization)
    if found.fits or override:
        progress.note(f"{estimate}: long or many chats have to wait, or run out of memory; {step}")
        return
    raise InvalidSettings(
        f"The base model does not fit: {estimate}.",
        next_step=f"{step}; or give override_reason if this estimate is wrong",
    )


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("text_config")
    return found if isinstance(found, dict) else {}


def _number(config: Mapping[str, Any], *names: str) -> int:
    return next((config[name] for name in names if type(config.get(name)) is int), 0)
