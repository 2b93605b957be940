"""The KV cache of a batch whose rows have different lengths.

Every layer has [rows, heads, capacity, head size] tensors, which grow geometrically. Rows are padded on the
right: nothing moves when a row grows, a row is not cropped when it leaves a window, and a removed row is
replaced by the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_GRAIN = 64
"""Capacity is a multiple of this many tokens."""


@dataclass
class WriteCursor:
    """Positions that the next forward pass writes, shared by all layers.

    ``rows`` rows take part; ``length`` is the number of positions of the longest row afterwards. Either every
    row writes one token at its own position (``places``), or all write a range that begins at ``start``.
    """

    rows: int = 0
    length: int = 0
    start: int = 0
    row_index: torch.Tensor | None = None
    places: torch.Tensor | None = None


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values."""

    def __init__(self, cursor: WriteCursor, *, sliding: bool) -> None:
        super().__init__()
        self.cursor = cursor
        self.is_sliding = sliding

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: :meth:`update` allocates the tensors when their length is known."""
        del key_states, value_states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new states at the cursor; return all of them, limited to the batch."""
        del args, kwargs
        cursor = self.cursor
        rows, length = cursor.rows, cursor.length
        self.keys = grow(self.keys, rows, length, key_states)
        self.values = grow(self.values, rows, length, value_states)
        if cursor.places is not None:
            self.keys[cursor.row_index, :, cursor.places] = key_states[:, :, 0]
            self.values[cursor.row_index, :, cursor.places] = value_states[:, :, 0]
        else:
            self.keys[:rows, :, cursor.start : length] = key_states
            self.values[:rows, :, cursor.start : length] = value_states
        return self.keys[:rows, :, :length], self.values[:rows, :, :length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset; not used by models, which get their masks from the runner."""
        del query_length
        return self.cursor.length, 0

    def get_seq_length(self) -> int:
        """Return the length before this forward pass; not used by models, which get positions."""
        return self.cursor.start

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1


class SlotCache(Cache):
    """The layers of one batch, and operations on whole rows."""

    def __init__(self, sliding: Sequence[bool]) -> None:
        self.cursor = WriteCursor()
        self.slots = [SlotLayer(self.cursor, sliding=is_sliding) for is_sliding in sliding]
        super().__init__(layers=list(self.slots))

    def write_run(self, rows: int, start: int, end: int) -> None:
        """Make the next forward pass write positions ``start`` to ``end`` of the first ``rows`` rows."""
        self.cursor.rows, self.cursor.start, self.cursor.length = rows, start, end
        self.cursor.places = None

    def write_each(self, places: torch.Tensor, longest: int) -> None:
        """Make the next forward pass write one token per row, at ``places`` [rows]."""
        cursor = self.cursor
        if cursor.row_index is None or len(cursor.row_index) != len(places):
            cursor.row_index = torch.arange(len(places), device=places.device)
        cursor.rows, cursor.length, cursor.start = len(places), longest + 1, longest
        cursor.places = places

    def copy_row(self, row: int, source: SlotCache, source_row: int, length: int) -> None:
        """Copy ``length`` positions of another cache's row into this one's."""
        for layer, other in zip(self.slots, source.slots, strict=True):
            for name in ("keys", "values"):
                tensor = getattr(other, name)
                target = grow(getattr(layer, name), row + 1, length, tensor)
                target[row, :, :length] = tensor[source_row, :, :length]
                setattr(layer, name, target)

    def remove_row(self, row: int, last: int) -> None:
        """Move row ``last`` to ``row`` and clear row ``last``.

        Without clearing, a NaN in it would reach the next sequence in this row through the masked part of its
        attention: zero times NaN is NaN.
        """
        for layer in self.slots:
            for tensor in (layer.keys, layer.values):
                if tensor is not None:
                    if row != last:
                        tensor[row] = tensor[last]
                    tensor[last] = 0

    def clear(self) -> None:
        """Free the memory."""
        for layer in self.slots:
            layer.keys = layer.values = None


def grow(tensor: torch.Tensor | None, rows: int, length: int, like: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` with capacity for ``rows`` rows of ``length`` positions; copied only to grow it."""
    if tensor is None:
        shape = (rows, like.shape[1], _rounded(length), like.shape[3])
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    have_rows, heads, have_length, size = tensor.shape
    if rows <= have_rows and length <= have_length:
        return tensor
    new_rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows)
    new_length = have_length if length <= have_length else _rounded(max(length, have_length * 3 // 2))
    larger = torch.zeros((new_rows, heads, new_length, size), dtype=tensor.dtype, device=tensor.device)
    larger[:have_rows, :, :have_length] = tensor
    return larger


def _rounded(length: int) -> int:
    return -(-(length + 1) // _GRAIN) * _GRAIN
