"""Run forward passes of any causal model, batched if its architecture allows it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import get_layer_types_and_kwargs

from .kv_cache import SlotCache

FULL = "full_attention"
SLIDING = "sliding_attention"

Masks = dict[str, torch.Tensor]


_FIXED_ROPE = {"default", "linear", "llama3", "yarn", "proportional"}
"""Position encodings whose angles do not depend on the length of other rows."""


@dataclass(frozen=True)
class BatchingPlan:
    """Whether and how rows of a model can share a forward pass."""

    sliding: tuple[bool, ...] = ()
    window: int | None = None
    mask_per_layer_type: bool = False
    """Whether the model takes a dict with one mask for each layer type."""
    sequential_reason: str | None = None
    """Why rows run one at a time; None if they are batched."""
    restart_at: int | None = None
    """Length at which a row is computed again: its position encoding changes for all tokens."""

    def must_restart(self, length: int) -> bool:
        """Return whether a row of ``length`` tokens has just exceeded the limit."""
        return self.restart_at is not None and length == self.restart_at + 1


def plan_for(model: Any, max_length: int) -> BatchingPlan:
    """Return the plan for a model's configuration; only full and sliding attention are batched."""
    config = model.config
    text = config.get_text_config(decoder=True)
    rope, original = _rope(text)
    restart = original if rope == "longrope" and max_length > (original or max_length) else None

    def sequential(reason: str) -> BatchingPlan:
        return BatchingPlan(sequential_reason=reason, restart_at=restart)

    if text is not config:
        return sequential(f"{config.model_type} is a multimodal model")
    if getattr(config, "is_encoder_decoder", False):
        return sequential("an encoder-decoder model")
    kinds, settings = get_layer_types_and_kwargs(text)
    unproven = sorted(set(kinds) - {FULL, SLIDING})
    if unproven:
        return sequential(f"its {', '.join(unproven)} layers are not proven to work with padding")
    if getattr(text, "use_bidirectional_attention", None) or getattr(text, "is_causal", True) is False:
        return sequential("its attention is not causal")
    if rope not in _FIXED_ROPE and max_length > (original or 0):
        return sequential(
            f"its {rope} position encoding changes beyond {original} tokens; "
            f"set max_model_len to at most {original} to batch several requests"
        )
    if "position_ids" not in _parameters(model):
        return sequential("it takes no position ids")
    windows = {setting["sliding_window"] for setting in settings if "sliding_window" in setting}
    if len(windows) > 1:
        return sequential(f"its layers have different windows: {sorted(windows)}")
    sliding = tuple(kind == SLIDING for kind in kinds)
    mixed = len(set(kinds)) > 1
    return BatchingPlan(sliding, windows.pop() if windows else None, mask_per_layer_type=mixed)


def _rope(text: Any) -> tuple[str, int | None]:
    """Return the kind of position encoding and the length from which it would change."""
    parameters = getattr(text, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)] or [parameters]
    kinds = [entry.get("rope_type", "default") for entry in nested]
    kind = next((kind for kind in kinds if kind not in _FIXED_ROPE), "default")
    originals = [entry.get("original_max_position_embeddings") for entry in nested]
    original = next((length for length in originals if length), None)
    original = original or getattr(text, "original_max_position_embeddings", None)
    return kind, original or getattr(text, "max_position_embeddings", None)


def _parameters(model: Any) -> set[str]:
    return set(inspect.signature(model.forward).parameters)


class ModelRunner:
    """Runs a transformers model and returns logits; used by one thread."""

    def __init__(self, inner: Any, max_length: int) -> None:
        self.inner = inner
        self.max_length = max_length
        self.plan = plan_for(inner, max_length)
        self.device: torch.device = next(inner.parameters()).device
        self.dtype: torch.dtype = inner.dtype
        self._parameters = _parameters(inner)
        self._kinds = [
            kind
            for kind, there in ((FULL, not all(self.plan.sliding)), (SLIDING, any(self.plan.sliding)))
            if there
        ]

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        cache: SlotCache,
        length: int,
        keep: int | torch.Tensor,
    ) -> torch.Tensor:
        """Return logits [rows, kept, vocabulary] of ``ids`` [rows, queries] at ``positions`` (same shape).

        ``length`` is the number of positions that the cache returns; ``keep`` is a number of queries at the
        end or a list of them.
        """
        masks = additive_masks(positions, length, self._kinds, self.plan.window, self.dtype)
        return self.inner(
            input_ids=ids,
            attention_mask=masks if self.plan.mask_per_layer_type else masks[self._kinds[0]],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits

    def new_sequential_cache(self) -> DynamicCache:
        """Return an empty cache of the model's own type."""
        return DynamicCache(config=self.inner.config)

    def forward_sequential(self, tokens: list[int], cache: DynamicCache, start: int) -> torch.Tensor:
        """Return the last logits [1, 1, vocabulary] of one row that continues at ``start``."""
        ids = torch.tensor([tokens], device=self.device)
        inputs: dict[str, Any] = {}
        if "position_ids" in self._parameters:
            inputs["position_ids"] = torch.arange(start, start + len(tokens), device=self.device)[None]
        if "logits_to_keep" in self._parameters:
            inputs["logits_to_keep"] = 1
        return self.inner(input_ids=ids, past_key_values=cache, use_cache=True, **inputs).logits[:, -1:]


def additive_masks(
    positions: torch.Tensor, length: int, kinds: Iterable[str], window: int | None, dtype: torch.dtype
) -> Masks:
    """Return one additive attention mask of shape [rows, 1, queries, length] for each of ``kinds``.

    The model's own mask code supports one length for all rows. Rows are padded on the right, so an index in
    the cache is a position. A query at ``positions`` [rows, queries] sees itself and earlier positions, in a
    sliding layer only the last ``window`` tokens, itself included. A query behind its row's end (padding)
    sees the row's beginning, so that no softmax is over an empty set.
    """
    index = torch.arange(length, device=positions.device)
    last = positions[:, None, :, None]
    masked_future = index > last
    minimum = torch.finfo(dtype).min
    masks: Masks = {}
    for kind in kinds:
        hidden = masked_future
        if kind == SLIDING and window is not None:
            hidden = masked_future | (index <= last - window)
        masks[kind] = torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(
            hidden, minimum
        )
    return masks
