"""Take the adapter's fingerprint: the contexts at which base and adapter differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbtoolkit.serving.fingerprint import Fingerprint, Probe, distance
from nbtoolkit.smoke.model_level.context import (
    ModelContext,
    batches,
    divergence,
    logits_alone,
    logits_batched,
    short_sequences,
    top_logprobs,
)
from nbtoolkit.smoke.model_level.effect import BATCH

CONTEXTS = 16
_CANDIDATES = 40
_PER_SEQUENCE = 4
"""Prefixes of one sequence give similar results; contexts of many prompts are more independent."""
_CLEAR = 4.0
"""A context is clear if the distance of base and adapter is more than this times its noise."""


class _Candidate(NamedTuple):
    probe: Probe
    noise: float
    clear: bool


def take_fingerprint(context: ModelContext) -> Fingerprint:
    """Return the adapter's fingerprint in the serving precision.

    The noise is the largest distance between a context computed alone and in a left-padded batch. If it is
    large, as in bfloat16, contexts that are clear of it precede those of the largest KL.
    """
    context.report("taking the adapter's fingerprint")
    ranked = _ranked_contexts(context)
    measured = list[_Candidate]()
    for first in range(0, len(ranked), BATCH):
        if sum(one.clear for one in measured) >= CONTEXTS:
            break  # in float32 the first ones are nearly always clear of the noise
        context.report("taking the adapter's fingerprint", first, len(ranked))
        measured += _measure(context.model, ranked[first : first + BATCH])
    chosen = sorted(measured, key=lambda one: not one.clear)[:CONTEXTS]  # stable: equals stay sorted by KL
    return Fingerprint(
        adapter_sha256=context.task.adapter_sha256,
        base_sha256=context.task.base_sha256,
        dtype=context.dtype,
        noise=max(one.noise for one in chosen),
        probes=tuple(one.probe for one in chosen),
    )


def _ranked_contexts(context: ModelContext) -> list[list[int]]:
    """Return distinct contexts, those with the largest KL(base‖adapter) first."""
    scores: dict[tuple[int, ...], tuple[float, int]] = {}
    sequences = short_sequences(context.tokenizer, context.chat_template, context.prompts)
    index = 0
    for group in batches(sequences, BATCH):  # the noise of a batch matters little for the order
        context.report("ranking contexts for the fingerprint", index, len(sequences))
        base = logits_batched(context.model, group, adapter=False)
        tuned = logits_batched(context.model, group, adapter=True)
        for ids, without, with_adapter in zip(group, base, tuned, strict=True):
            kl = divergence(without, with_adapter).tolist()
            for length in range(2, len(ids) + 1):
                scores.setdefault(tuple(ids[:length]), (kl[length - 1], index))
            index += 1
    taken = dict[int, int]()
    first, rest = list[list[int]](), list[list[int]]()
    for ids in sorted(scores, key=lambda ids: -scores[ids][0]):
        sequence = scores[ids][1]
        taken[sequence] = taken.get(sequence, 0) + 1
        (first if taken[sequence] <= _PER_SEQUENCE else rest).append(list(ids))
    return [*first, *rest][:_CANDIDATES]


def _measure(model: Any, contexts: Sequence[list[int]]) -> list[_Candidate]:
    """Compute contexts alone and in one batch, with and without the adapter."""
    answers: dict[bool, list[dict[int, float]]] = {}
    noise = [0.0] * len(contexts)
    for adapter in (False, True):
        alone = [top_logprobs(logits_alone(model, ids, adapter=adapter, last=True)[0]) for ids in contexts]
        for index, row in enumerate(logits_batched(model, contexts, adapter=adapter, last=True)):
            noise[index] = max(noise[index], distance(alone[index], top_logprobs(row[0])))
        answers[adapter] = alone
    return [
        _Candidate(
            Probe(context=tuple(ids), base=base, adapter=tuned), seen, distance(base, tuned) > _CLEAR * seen
        )
        for ids, base, tuned, seen in zip(contexts, answers[False], answers[True], noise, strict=True)
    ]
