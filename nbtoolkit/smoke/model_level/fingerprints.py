"""Find the contexts where base and adapter disagree most, and what both say there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbtoolkit.serving.fingerprint import Fingerprint, Probe, distance
from nbtoolkit.smoke.model_level.context import ModelSubject
from nbtoolkit.smoke.model_level.effect import BATCH
from nbtoolkit.smoke.model_level.forward import divergence, logits_alone, logits_batched, top_logprobs
from nbtoolkit.smoke.model_level.prompts import batches, short_sequences

CONTEXTS = 16
_CANDIDATES = 40
_PER_SEQUENCE = 4
"""Neighbouring prefixes say nearly the same; contexts of many prompts say more."""
_CLEAR = 4.0
"""A context is clear where base and adapter lie this many times its own noise apart."""


@dataclass(frozen=True)
class _Candidate:
    probe: Probe
    noise: float

    @property
    def clear(self) -> bool:
        return distance(self.probe.base, self.probe.adapter) > _CLEAR * self.noise


def fingerprint(subject: ModelSubject) -> Fingerprint:
    """Return the adapter's fingerprint in the serving precision.

    The noise is the largest distance between a context answered alone and in a left-padded batch. Where it
    is large, as in bfloat16, contexts that stand clear of it are preferred to those of the largest KL.
    """
    subject.tell("taking the adapter's fingerprint")
    ranked = _ranked_contexts(subject)
    measured = list[_Candidate]()
    for first in range(0, len(ranked), BATCH):
        if sum(one.clear for one in measured) >= CONTEXTS:
            break  # the first ones are clear of the noise already, as nearly always in float32
        subject.tell("taking the adapter's fingerprint", first, len(ranked))
        measured += _measured(subject.model, ranked[first : first + BATCH])
    chosen = sorted(measured, key=lambda one: not one.clear)[:CONTEXTS]  # stable: KL decides among equals
    return Fingerprint(
        adapter_sha256=subject.task.adapter_sha256,
        base_sha256=subject.task.base_sha256,
        dtype=subject.dtype,
        noise=max(one.noise for one in chosen),
        probes=tuple(one.probe for one in chosen),
    )


def _ranked_contexts(subject: ModelSubject) -> list[list[int]]:
    """Return distinct contexts, those with the largest KL(base‖adapter) first."""
    scored: dict[tuple[int, ...], tuple[float, int]] = {}
    sequences = short_sequences(subject.tokenizer, subject.prompts)
    index = 0
    for group in batches(sequences, BATCH):  # a batch's noise matters little for an order
        subject.tell("looking for contexts that tell the adapter", index, len(sequences))
        base = logits_batched(subject.model, group, adapter=False)
        tuned = logits_batched(subject.model, group, adapter=True)
        for ids, without, with_adapter in zip(group, base, tuned, strict=True):
            found = divergence(without, with_adapter).tolist()
            for length in range(2, len(ids) + 1):
                scored.setdefault(tuple(ids[:length]), (found[length - 1], index))
            index += 1
    order = sorted(scored, key=lambda context: -scored[context][0])
    taken = dict[int, int]()
    first, rest = list[list[int]](), list[list[int]]()
    for context in order:
        sequence = scored[context][1]
        taken[sequence] = taken.get(sequence, 0) + 1
        (first if taken[sequence] <= _PER_SEQUENCE else rest).append(list(context))
    return [*first, *rest][:_CANDIDATES]


def _measured(model: Any, contexts: Sequence[list[int]]) -> list[_Candidate]:
    """Answer contexts alone and in one batch, with and without the adapter."""
    answers: dict[bool, list[dict[int, float]]] = {}
    noise = [0.0] * len(contexts)
    for adapter in (False, True):
        alone = [top_logprobs(logits_alone(model, ids, adapter=adapter, last=True)[0]) for ids in contexts]
        for index, row in enumerate(logits_batched(model, contexts, adapter=adapter, last=True)):
            noise[index] = max(noise[index], distance(alone[index], top_logprobs(row[0])))
        answers[adapter] = alone
    return [
        _Candidate(Probe(context=tuple(ids), base=base, adapter=tuned), seen)
        for ids, base, tuned, seen in zip(contexts, answers[False], answers[True], noise, strict=True)
    ]
