"""Take the adapter's fingerprint: the contexts at which base and adapter differ most."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from nbtoolkit.serving.dtype import serving_dtype
from nbtoolkit.serving.fingerprint import Fingerprint, Probe, distance
from nbtoolkit.smoke.model_level.context import ModelContext, on_clean_base, short_sequences
from nbtoolkit.smoke.model_level.effect import BATCH
from nbtoolkit.smoke.model_level.forward import (
    Distributions,
    batches,
    computing_in,
    distributions,
    divergence,
    logits_alone,
    logits_batched,
    top_logprobs,
)

CONTEXTS = 16
_PER_SEQUENCE = 4
"""Prefixes of one sequence give similar results; contexts of many prompts are more independent."""
_CLEAR = 4.0
"""A context is clear if the distance of base and adapter is more than this times its noise."""
_RECAST_BATCH = 64
"""Sequences per forward pass in another precision, in which casting the weights costs more than computing."""
_FINENESS = ("bfloat16", "float16", "float32")
"""The precisions that serve, coarsest first."""

_Tops = list[dict[int, float]]
"""The most likely tokens after each prefix of a sequence, with their log-probabilities."""
_Noise = dict[str, list[float]]
"""Per precision of a server the distance in nats that it alone explains, for each prefix of a sequence."""


class _Measured(NamedTuple):
    """What one model answers to one sequence."""

    logits: torch.Tensor
    tops: _Tops
    noise: _Noise


class _Candidate(NamedTuple):
    probe: Probe
    divergence: float
    sequence: int


@on_clean_base
def base_on_contexts(context: ModelContext) -> list[tuple[Distributions, _Tops, _Noise]]:
    """Measure the base on the sequences whose prefixes are the candidate contexts."""
    context.report("measuring the base for the fingerprint")
    measured = _measure(context, context.base)
    return [(distributions(one.logits), one.tops, one.noise) for one in measured]


def take_fingerprint(context: ModelContext) -> Fingerprint:
    """Return the adapter's fingerprint in the serving precision.

    Contexts that are clear of the noise precede those of the largest KL(base‖adapter).
    """
    context.report("taking the adapter's fingerprint")
    model = context.model
    candidates: dict[tuple[int, ...], _Candidate] = {}
    pairs = zip(_sequences(context), base_on_contexts(context), _measure(context, model), strict=True)
    for index, (ids, (base, tops, noise), tuned) in enumerate(pairs):
        scores = divergence(base, tuned.logits).tolist()
        for last in range(1, len(ids)):
            probe = Probe(
                context=tuple(ids[: last + 1]),
                base=tops[last],
                adapter=tuned.tops[last],
                noise={dtype: max(noise[dtype][last], tuned.noise[dtype][last]) for dtype in noise},
            )
            candidates.setdefault(probe.context, _Candidate(probe, scores[last], index))
    return Fingerprint(
        adapter_sha256=context.task.adapter_sha256,
        base_sha256=context.task.base_sha256,
        dtype=context.dtype,
        probes=tuple(_choose(list(candidates.values()), context.dtype)),
    )


def _choose(candidates: list[_Candidate], dtype: str) -> list[Probe]:
    """Return the best probes: clear of the noise, of many sequences, with a large divergence."""
    taken = dict[int, int]()
    ranked = list[tuple[bool, bool, Probe]]()
    for one in sorted(candidates, key=lambda one: -one.divergence):
        taken[one.sequence] = taken.get(one.sequence, 0) + 1
        unclear = distance(one.probe.base, one.probe.adapter) <= _CLEAR * one.probe.noise[dtype]
        ranked.append((unclear, taken[one.sequence] > _PER_SEQUENCE, one.probe))
    ranked.sort(key=lambda one: one[:2])  # stable: equals stay sorted by divergence
    return [probe for *_, probe in ranked[:CONTEXTS]]


def _sequences(context: ModelContext) -> list[list[int]]:
    return short_sequences(context.tokenizer, context.chat_template, context.prompts)


def _measure(context: ModelContext, model: Any) -> list[_Measured]:
    """Compute the sequences alone, in left-padded batches, and in other precisions.

    Two devices round one precision differently, each about as far from exact as this one, which a pass in
    float32, or float64, measures. Finer precisions are as far from this one as exact is.
    """
    exact = "float64" if context.dtype == "float32" else "float32"
    fineness = _FINENESS.index(context.dtype)
    served = _serving_dtypes(context)
    coarser = served & set(_FINENESS[:fineness])
    sequences = _sequences(context)
    alone = [logits_alone(model, ids) for ids in sequences]
    tops = [[top_logprobs(row) for row in logits] for logits in alone]
    batch = _distances(tops, model, sequences, BATCH)
    noise: dict[str, list[list[float]]] = {context.dtype: batch}
    for name in sorted(coarser | {exact}):
        try:
            with computing_in(model, getattr(torch, name)):
                noise[name] = _larger(batch, _distances(tops, model, sequences, _RECAST_BATCH))
        except RuntimeError as error:
            if name != "float64" or isinstance(error, torch.OutOfMemoryError):
                raise  # float64 has no kernel for stacked experts
    own = noise.pop(exact, batch)
    noise |= dict.fromkeys({context.dtype, *served} - coarser, own)
    return [
        _Measured(logits, top, {name: rows[index] for name, rows in noise.items()})
        for index, (logits, top) in enumerate(zip(alone, tops, strict=True))
    ]


def _distances(tops: list[_Tops], model: Any, sequences: list[list[int]], size: int) -> list[list[float]]:
    """Return each prefix's distance from the same prefix in a batch of ``size`` sequences."""
    rows = [logits for group in batches(sequences, size) for logits in logits_batched(model, group)]
    return [
        [distance(top, top_logprobs(row)) for top, row in zip(expected, logits, strict=True)]
        for expected, logits in zip(tops, rows, strict=True)
    ]


def _larger(one: list[list[float]], other: list[list[float]]) -> list[list[float]]:
    return [[max(pair) for pair in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]


def _serving_dtypes(context: ModelContext) -> set[str]:
    """Return the precisions that the settings mean on any device."""
    saved = getattr(context.base_config, "dtype", None)
    return {
        serving_dtype(context.settings.dtype, device=device, saved=saved, has_bfloat16=has_bfloat16)
        for device in ("cpu", "cuda")
        for has_bfloat16 in (True, False)
    }
