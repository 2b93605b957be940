"""Prefill and decoding of sequences of one adapter, one token per row and step.

:class:`BatchedDecoder` runs all rows of an adapter in one forward pass; rows join and leave between steps.
:class:`SequentialDecoder` runs one row per step with the model's own cache, for models whose cache is not
proven to work with padding. Only the scheduler's thread uses them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Sequence_

import torch
from transformers import DynamicCache

from .kv_cache import SlotCache
from .model_runner import ModelRunner
from .sequence import Sequence

StepLogits = tuple[list[Sequence], torch.Tensor]
"""Sequences and their next logits, [sequences, vocabulary]."""


def pop_group(waiting: deque[Sequence], room: int, tokens: int) -> list[Sequence]:
    """Remove and return the first sequence and those directly behind it that can be prefilled with it.

    At most ``room`` sequences of one adapter and of similar length, ``tokens`` in all including padding.
    No sequence overtakes an earlier one.
    """
    if not waiting or room <= 0:
        return []
    together = [waiting.popleft()]
    longest = used = len(together[0].prompt)
    while waiting and len(together) < room:
        other = waiting[0]
        longest = max(longest, len(other.prompt))
        used += len(other.prompt)
        padded = longest * (len(together) + 1)
        if other.adapter != together[0].adapter or padded > tokens or padded > 2 * used:
            break
        together.append(waiting.popleft())
    return together


class BatchedDecoder:
    """Rows of one batch; a new token's position in the cache is its row's length."""

    def __init__(self, model: ModelRunner) -> None:
        self.sequences: list[Sequence] = []
        self._model = model
        self.cache = SlotCache(model.plan.sliding)

    def step(self) -> StepLogits:
        """Run every row's last token through the model; raises what the model raises."""
        rows = self.sequences
        places = [row.length - 1 for row in rows]
        device = self._model.device
        positions = torch.tensor(places, device=device)
        ids = torch.tensor([[row.last] for row in rows], device=device)
        self.cache.write_each(positions, max(places))
        logits = self._model.forward(ids, positions[:, None], self.cache, max(places) + 1, 1)
        return list(rows), logits[:, -1]

    def leave(self, sequence: Sequence) -> None:
        """Remove a row; the last one moves into its position."""
        row, last = self.sequences.index(sequence), len(self.sequences) - 1
        self.cache.remove_row(row, last)
        self.sequences[row] = self.sequences[last]
        self.sequences.pop()
        if not self.sequences:
            self.cache.clear()


class BatchedPrefill:
    """Prompts of one adapter in a separate cache, until they join the batch.

    A long prompt is processed alone and in chunks, so that running answers continue in between; short ones
    are processed together, padded on the right.
    """

    def __init__(self, model: ModelRunner, sequences: Sequence_[Sequence]) -> None:
        self.sequences = list(sequences)
        self._members = tuple(sequences)
        self._model = model
        self._cache = SlotCache(model.plan.sliding)
        self._done = 0

    def advance(self, budget: int) -> StepLogits | None:
        """Process the next chunk; only a single prompt has more than one."""
        prompts = [member.prompt for member in self._members]
        longest = max(map(len, prompts))
        start = self._done
        end = min(longest, start + budget) if len(prompts) == 1 else longest
        padded = [prompt[start:end] + [0] * (end - max(start, len(prompt))) for prompt in prompts]
        ids = torch.tensor(padded, device=self._model.device)
        positions = torch.arange(start, end, device=self._model.device).expand(len(prompts), -1)
        self._cache.write_run(len(prompts), start, end)
        # Logits at the prompts' last positions only: the vocabulary is by far the widest layer.
        lasts = sorted({len(prompt) - 1 for prompt in prompts})
        keep = torch.tensor([last - start for last in lasts], device=ids.device) if end == longest else 1
        logits = self._model.forward(ids, positions, self._cache, end, keep)
        self._done = end
        if end < longest:
            return None
        wanted = [row for row, member in enumerate(self._members) if member in self.sequences]
        columns = [lasts.index(len(prompts[row]) - 1) for row in wanted]
        return [self._members[row] for row in wanted], logits[wanted, columns]

    def join(self, rows: Decoder, sequence: Sequence) -> None:
        """Copy a finished row into the batch; its last token is not in the cache yet."""
        assert isinstance(rows, BatchedDecoder)
        row = self._members.index(sequence)
        rows.cache.copy_row(len(rows.sequences), self._cache, row, sequence.length)
        rows.sequences.append(sequence)


class SequentialDecoder:
    """Rows with one cache each; every step advances the next row in turn."""

    def __init__(self, model: ModelRunner) -> None:
        self.sequences: list[Sequence] = []
        self._model = model
        self.caches: dict[Sequence, DynamicCache] = {}

    def step(self) -> StepLogits:
        """Advance the first row and move it to the end."""
        row = self.sequences.pop(0)
        self.sequences.append(row)
        cache, tokens = self.caches[row], [row.last]
        if self._model.plan.must_restart(row.length):
            cache, tokens = self._model.new_sequential_cache(), row.tokens
            self.caches[row] = cache
        logits = self._model.forward_sequential(tokens, cache, row.length - len(tokens))
        return [row], logits[:, -1]

    def leave(self, sequence: Sequence) -> None:
        """Remove a row and its cache."""
        self.sequences.remove(sequence)
        del self.caches[sequence]


class SequentialPrefill:
    """One prompt, processed as a whole, as the model's own cache requires."""

    def __init__(self, model: ModelRunner, sequences: Sequence_[Sequence]) -> None:
        (sequence,) = sequences
        self.sequences = [sequence]
        self._model = model
        self._cache = model.new_sequential_cache()

    def advance(self, budget: int) -> StepLogits | None:
        """Process the whole prompt; ``budget`` is ignored."""
        del budget
        sequence = self.sequences[0]
        logits = self._model.forward_sequential(sequence.prompt, self._cache, 0)
        return [sequence], logits[:, -1]

    def join(self, rows: Decoder, sequence: Sequence) -> None:
        """Move the cache into the decoder."""
        assert isinstance(rows, SequentialDecoder)
        rows.sequences.append(sequence)
        rows.caches[sequence] = self._cache


Decoder = BatchedDecoder | SequentialDecoder
Prefill = BatchedPrefill | SequentialPrefill
