"""The decoding loop: one thread that prefills prompts and decodes all running answers.

Between two steps it accepts new requests, drops cancelled ones and runs functions of other threads, such as
loading an adapter. One step is a chunk of prefill, if a prompt waits, and one token for every row of one
adapter; the adapters take turns.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

import torch

from .adapters import Adapters
from .batch import (
    BatchedDecoder,
    BatchedPrefill,
    Decoder,
    Prefill,
    SequentialDecoder,
    SequentialPrefill,
    StepLogits,
    pop_group,
)
from .errors import exit_if_device_lost, step_failed, unknown_model
from .model_runner import ModelRunner
from .sampling import sample
from .sequence import Sequence

Result = TypeVar("Result")
log = logging.getLogger(__name__)
PREFILL_TOKENS = {"cpu": 256, "cuda": 1024}
"""Prompt tokens between two decoding steps: a long prompt must not stall running answers."""


class Scheduler:
    """Runs sequences to their end; all public methods but :meth:`run` and :meth:`step` are thread-safe."""

    def __init__(
        self, model: ModelRunner, adapters: Adapters, max_rows: int, flush: Callable[[], None]
    ) -> None:
        self.model = model
        self._adapters = adapters
        self._max_rows = max_rows
        self._flush = flush
        self.batched = model.plan.sequential_reason is None
        self.prefill_tokens = PREFILL_TOKENS.get(model.device.type, 512)
        self._ready = threading.Condition()
        self._inbox: list[Sequence] = []
        self._calls: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._waiting: deque[Sequence] = deque()
        self._prefill: Prefill | None = None
        self.groups: dict[str | None, Decoder] = {}
        """The running sequences of each adapter."""
        self.steps = 0
        self.tokens = 0

    # From any thread.

    def submit(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences, first in first out."""
        with self._ready:
            self._inbox.extend(sequences)
            self._ready.notify()

    def cancel(self, sequence: Sequence) -> None:
        """Free the sequence's row before the next step; nothing more is delivered."""
        sequence.cancelled = True
        with self._ready:
            self._ready.notify()

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` between two steps."""
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - raised in the calling thread
                exit_if_device_lost(error)
                future.set_exception(error)

        with self._ready:
            self._calls.append(run)
            self._ready.notify()
        return future

    def stop(self) -> None:
        """Make :meth:`run` return after the current step."""
        with self._ready:
            self._stopping = True
            self._ready.notify()

    @property
    def rows(self) -> int:
        """Number of running sequences, including those in prefill."""
        decoding = sum(len(rows.sequences) for rows in list(self.groups.values()))
        return decoding + (len(prefill.sequences) if (prefill := self._prefill) else 0)

    @property
    def waiting(self) -> int:
        """Number of sequences without a row."""
        return len(self._waiting) + len(self._inbox)

    # In the scheduler's thread.

    def retire(self, name: str) -> None:
        """Unload an adapter as soon as its last answer is finished; at once if there is none."""
        self._adapters.retiring.add(name)
        self._unload_retired()

    def run(self) -> None:
        """Run steps until :meth:`stop`."""
        while self._wait():
            try:
                self.step()
            except Exception as error:
                log.exception("a step of the scheduler failed")
                self._fail_all(error)

    def step(self) -> None:
        """Accept new requests, prefill a chunk and decode one token; returns at once without work."""
        self._accept_new()
        self._unload_retired()
        with torch.inference_mode():
            self._drop_cancelled()
            self._prefill_chunk()
            self._decode_step()
        self._flush()

    @property
    def busy(self) -> bool:
        """Whether there is work."""
        running = self._waiting or self._prefill or self.groups
        return bool(running or self._inbox or self._calls or self._adapters.retiring)

    def _wait(self) -> bool:
        """Wait until there is work; return False to stop."""
        with self._ready:
            while not (self._stopping or self.busy):
                self._ready.wait()
            return not self._stopping

    def _accept_new(self) -> None:
        with self._ready:
            arrived, self._inbox = self._inbox, []
            calls, self._calls = self._calls, deque()
        # Sequences first: one that was queued before its adapter was unloaded is answered.
        for sequence in arrived:
            if sequence.adapter is None or sequence.adapter in self._adapters.names:
                self._waiting.append(sequence)
            else:
                sequence.fail(unknown_model(sequence.adapter, self._adapters.names))
        for call in calls:
            call()

    def _drop_cancelled(self) -> None:
        self._waiting = deque(s for s in self._waiting if not s.cancelled)
        if self._prefill:
            self._prefill.sequences = [s for s in self._prefill.sequences if not s.cancelled]
            if not self._prefill.sequences:
                self._prefill = None
        for rows in list(self.groups.values()):
            for sequence in [s for s in rows.sequences if s.cancelled]:
                self._leave(sequence)

    def _unload_retired(self) -> None:
        for name in list(self._adapters.retiring):
            used = name in self.groups or any(s.adapter == name for s in self._waiting)
            if not used and not (self._prefill and self._prefill.sequences[0].adapter == name):
                self._adapters.unload(name)

    def _leave(self, sequence: Sequence) -> None:
        rows = self.groups[sequence.adapter]
        rows.leave(sequence)
        if not rows.sequences:
            del self.groups[sequence.adapter]

    def _prefill_chunk(self) -> None:
        """Continue the current prefill, or begin with the first waiting sequences."""
        if self._prefill is None:
            tokens = self.prefill_tokens if self.batched else 0
            group = pop_group(self._waiting, self._max_rows - self.rows, tokens)
            if not group:
                return
            self._prefill = (BatchedPrefill if self.batched else SequentialPrefill)(self.model, group)
        prefill = self._prefill
        adapter = prefill.sequences[0].adapter
        try:
            self._adapters.activate(adapter)
            result = prefill.advance(self.prefill_tokens)
            if result is None:
                return
            self._prefill = None
            rows = self.groups.get(adapter) or (BatchedDecoder if self.batched else SequentialDecoder)(
                self.model
            )
            for sequence in result[0]:
                prefill.join(rows, sequence)
            self.groups[adapter] = rows
            self._accept(result)
        except Exception as error:  # noqa: BLE001 - an error of the model fails these requests only
            self._prefill = None
            self._fail(prefill.sequences, adapter, error)

    def _decode_step(self) -> None:
        """Advance the next adapter in turn by one token per row."""
        if not self.groups:
            return
        adapter, rows = next(iter(self.groups.items()))
        # Move it to the end: a dict keeps its order of insertion.
        self.groups[adapter] = self.groups.pop(adapter)
        try:
            self._adapters.activate(adapter)
            self._accept(rows.step())
        except torch.cuda.OutOfMemoryError as error:
            # Fail the newest half of the batch and retry the rest in its next turn.
            torch.cuda.empty_cache()
            self._fail(rows.sequences[len(rows.sequences) // 2 :], adapter, error)
        except Exception as error:  # noqa: BLE001 - an error of the model fails these requests only
            self._fail(rows.sequences, adapter, error)

    def _accept(self, result: StepLogits) -> None:
        """Sample the next tokens; remove finished rows."""
        sequences, logits = result
        choices = sample(logits, [s.sampling for s in sequences], [s.rng for s in sequences])
        self.steps += 1
        self.tokens += len(sequences)
        for sequence, choice in zip(sequences, choices, strict=True):
            if sequence.append(choice) is not None:
                self._leave(sequence)

    def _fail_all(self, error: Exception) -> None:
        """Fail all running and waiting sequences, and continue with an empty state."""
        exit_if_device_lost(error)
        running = [s for rows in self.groups.values() for s in rows.sequences]
        for sequence in [*running, *(self._prefill.sequences if self._prefill else ()), *self._waiting]:
            sequence.fail(step_failed(error))
        self._waiting.clear()
        self.groups.clear()
        self._prefill = None
        self._flush()

    def _fail(self, sequences: list[Sequence], adapter: str | None, error: Exception) -> None:
        exit_if_device_lost(error)
        rows = self.groups.get(adapter)
        for sequence in list(sequences):
            sequence.fail(step_failed(error))
            if rows and sequence in rows.sequences:
                self._leave(sequence)
