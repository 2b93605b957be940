"""Which cached positions a new token sees, as additive attention masks.

They are made here and handed to the model ready (four dimensions), because its own mask code knows one
length for all rows. Rows are padded on the right, so a position's index in the cache is its position.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

FULL = "full_attention"
SLIDING = "sliding_attention"

Masks = dict[str, torch.Tensor]


def additive(
    positions: torch.Tensor, length: int, kinds: Iterable[str], window: int | None, dtype: torch.dtype
) -> Masks:
    """Return one mask of shape [rows, 1, queries, length] for each of ``kinds``.

    ``positions`` [rows, queries] are the queries' own; each sees itself and what lies before it, in a
    sliding layer no further back than ``window`` tokens, itself included. A query past the end of
    its row (padding) sees its row's beginning, so that no softmax runs over nothing.
    """
    index = torch.arange(length, device=positions.device)
    last = positions[:, None, :, None]
    unseen = index > last
    lowest = torch.finfo(dtype).min
    masks: Masks = {}
    for kind in kinds:
        hidden = unseen
        if kind == SLIDING and window is not None:
            hidden = unseen | (index <= last - window)
        masks[kind] = torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(
            hidden, lowest
        )
    return masks
