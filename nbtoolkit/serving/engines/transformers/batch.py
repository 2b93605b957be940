"""Answers that are decoded together, one token each a step.

:class:`SlotRows` runs all rows of an adapter in one forward pass; rows join and leave between steps.
:class:`OwnRows` runs one row a step with the model's own cache, for models whose cache is not proven
to bear padding. Both are used by the decode loop's thread alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Sequence_
from typing import Protocol

import torch
from transformers import DynamicCache

from .kv_cache import SlotCache
from .model_runner import ModelRunner
from .sequence import Sequence

StepLogits = tuple[list[Sequence], torch.Tensor]
"""Sequences and their next logits, [sequences, vocabulary]."""


class Decoder(Protocol):
    """The running answers of one adapter."""

    sequences: list[Sequence]

    def step(self) -> StepLogits:
        """Advance one step."""
        ...

    def leave(self, sequence: Sequence) -> None:
        """Free a row."""
        ...


class Prefill(Protocol):
    """Prompts on their way into the cache."""

    sequences: list[Sequence]

    def advance(self, budget: int) -> StepLogits | None:
        """Process up to ``budget`` tokens a row; return the first logits when all are done."""
        ...

    def join(self, rows: Decoder, sequence: Sequence) -> None:
        """Hand a finished row over, before its next step."""
        ...


class WaitingQueue:
    """The waiting sequences of all adapters in one order."""

    def __init__(self) -> None:
        self.waiting: deque[Sequence] = deque()

    def drop_cancelled(self) -> None:
        """Forget those whose client went away."""
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(s for s in self.waiting if not s.cancelled)

    def pop_group(self, room: int, tokens: int) -> list[Sequence]:
        """Take the first, and those right behind it that are prefilled well together with it.

        At most ``room`` sequences of one adapter, about as long, ``tokens`` in all with padding; none
        overtakes an earlier one.
        """
        if not self.waiting or room <= 0:
            return []
        first = self.waiting.popleft()
        together = [first]
        longest = used = len(first.prompt)
        while self.waiting and len(together) < room:
            other = self.waiting[0]
            longest = max(longest, len(other.prompt))
            used += len(other.prompt)
            padded = longest * (len(together) + 1)
            if other.adapter != first.adapter or padded > tokens or padded > 2 * used:
                break
            together.append(self.waiting.popleft())
        return together


class BatchedDecoder:
    """Rows of one batch; a new token's place is its row's length."""

    def __init__(self, model: ModelRunner) -> None:
        self.sequences: list[Sequence] = []
        self._model = model
        self.cache = SlotCache(model.plan.sliding)

    def step(self) -> StepLogits:
        """Run every row's last token through the model; raises whatever the model raises."""
        rows = self.sequences
        places = [row.length - 1 for row in rows]
        device = self._model.device
        positions = torch.tensor(places, device=device)
        ids = torch.tensor([[row.last] for row in rows], device=device)
        self.cache.write_each(positions, max(places))
        logits = self._model.forward(ids, positions[:, None], self.cache, max(places) + 1, 1)
        return list(rows), logits[:, -1]

    def add(self, sequence: Sequence, cache: SlotCache, row: int) -> None:
        """Take over a prefilled row; its last token is not in the cache yet."""
        self.cache.copy_row(len(self.sequences), cache, row, sequence.length)
        self.sequences.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Free a row; the last one moves into its place."""
        row, last = self.sequences.index(sequence), len(self.sequences) - 1
        self.cache.remove_row(row, last)
        self.sequences[row] = self.sequences[last]
        self.sequences.pop()
        if not self.sequences:
            self.cache.clear()


class BatchedPrefill:
    """Prompts of one adapter in a cache of their own, until they join the batch.

    A long prompt comes alone and goes in pieces, so that running answers go on between them; short
    ones go together, padded on the right.
    """

    def __init__(self, model: ModelRunner, sequences: Sequence_[Sequence]) -> None:
        self.sequences = list(sequences)
        self._members = tuple(sequences)
        self._model = model
        self._cache = SlotCache(model.plan.sliding)
        self._done = 0

    def advance(self, budget: int) -> StepLogits | None:
        """Process the next piece; only a prompt that is alone has more than one."""
        prompts = [member.prompt for member in self._members]
        longest = max(map(len, prompts))
        start = self._done
        end = min(longest, start + budget) if len(prompts) == 1 else longest
        padded = [prompt[start:end] + [0] * (end - max(start, len(prompt))) for prompt in prompts]
        ids = torch.tensor(padded, device=self._model.device)
        positions = torch.arange(start, end, device=self._model.device).expand(len(prompts), -1)
        self._cache.write_run(len(prompts), start, end)
        # Logits at the prompts' last places only: the vocabulary is the widest layer by far.
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
        """Copy a finished row into the batch."""
        assert isinstance(rows, BatchedDecoder)
        rows.add(sequence, self._cache, self._members.index(sequence))


class SequentialDecoder:
    """Rows with a cache each; every step advances the one whose turn it is."""

    def __init__(self, model: ModelRunner) -> None:
        self.sequences: list[Sequence] = []
        self._model = model
        self._caches: dict[Sequence, DynamicCache] = {}

    def step(self) -> StepLogits:
        """Advance the first row and send it to the end."""
        row = self.sequences.pop(0)
        self.sequences.append(row)
        cache, tokens = self._caches[row], [row.last]
        if self._model.plan.must_restart(row.length):
            cache, tokens = self._model.new_sequential_cache(), row.tokens
            self._caches[row] = cache
        logits = self._model.forward_sequential(tokens, cache, row.length - len(tokens))
        return [row], logits[:, -1]

    def add(self, sequence: Sequence, cache: DynamicCache) -> None:
        """Take over a prefilled row with its cache."""
        self.sequences.append(sequence)
        self._caches[sequence] = cache

    def leave(self, sequence: Sequence) -> None:
        """Drop a row and its cache."""
        self.sequences.remove(sequence)
        del self._caches[sequence]


class SequentialPrefill:
    """One prompt, processed whole: the model's own cache is exact only so."""

    def __init__(self, model: ModelRunner, sequences: Sequence_[Sequence]) -> None:
        (sequence,) = sequences
        self.sequences = [sequence]
        self._model = model
        self._cache = model.new_sequential_cache()

    def advance(self, budget: int) -> StepLogits | None:
        """Process the prompt; ``budget`` does not divide it."""
        del budget
        sequence = self.sequences[0]
        logits = self._model.forward_sequential(sequence.prompt, self._cache, 0)
        return [sequence], logits[:, -1]

    def join(self, rows: Decoder, sequence: Sequence) -> None:
        """Hand the cache over."""
        assert isinstance(rows, SequentialDecoder)
        rows.add(sequence, self._cache)
