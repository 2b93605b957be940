"""Tokens are sampled from the requested distribution."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from nbtoolkit.serving.engines.transformers.sampling import sample
from nbtoolkit.serving.engines.transformers.sequence import SamplingParams

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def draw(sampling: SamplingParams, times: int, logits: torch.Tensor = LOGITS) -> Counter[int]:
    rows = 500
    rng = [random.Random(number) for number in range(rows)]
    counts: Counter[int] = Counter()
    for _ in range(times // rows):
        counts.update(c.token for c in sample(logits.expand(rows, -1), [sampling] * rows, rng))
    return counts


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (SamplingParams(), 6),
        (SamplingParams(temperature=0.5), 6),
        (SamplingParams(top_k=2), 2),
        (SamplingParams(top_p=0.6), 2),
        (SamplingParams(top_k=3, top_p=0.99), 3),
        (SamplingParams(top_k=3, top_p=0.7), 2),
        (SamplingParams(top_p=1e-9), 1),
        (SamplingParams(top_k=1), 1),
    ],
)
def test_frequencies_match_the_distribution(sampling: SamplingParams, allowed: int) -> None:
    counts = draw(sampling, 20_000)
    expected = (LOGITS / sampling.temperature).softmax(-1)[:allowed]
    expected = expected / expected.sum()
    assert max(counts) < allowed
    for token, probability in enumerate(expected.tolist()):
        assert counts[token] / 20_000 == pytest.approx(probability, abs=0.015)


def test_top_p_beyond_the_sorted_head_includes_all_tokens_of_the_nucleus() -> None:
    flat = torch.zeros(1000)
    counts = draw(SamplingParams(top_p=0.9), 10_000, flat)
    assert len(counts) > 850
    assert len(counts) <= 900


def test_a_seed_samples_the_same_tokens_in_any_batch() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 300)
    seeded = SamplingParams(seed=7, top_p=0.9)
    alone = sample(logits[2:3], [seeded], [seeded.rng()])[0].token
    mixed = [
        SamplingParams(temperature=0),
        SamplingParams(),
        seeded,
        SamplingParams(top_k=3),
        SamplingParams(temperature=0),
    ]
    assert sample(logits, mixed, [s.rng() for s in mixed])[2].token == alone


def test_greedy_rows_sample_the_most_likely_token_in_a_mixed_batch() -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    samplings = [
        SamplingParams(temperature=0, top_k=5),
        SamplingParams(temperature=5),
        SamplingParams(temperature=0),
        SamplingParams(),
    ]
    tokens = [choice.token for choice in sample(logits, samplings, [s.rng() for s in samplings])]
    assert [tokens[0], tokens[2]] == [logits[0].argmax().item(), logits[2].argmax().item()]


def test_a_tiny_temperature_does_not_overflow() -> None:
    (choice,) = sample(LOGITS[None] * 100, [SamplingParams(temperature=1e-6)], [random.Random(0)])
    assert choice.token == 0


def test_logprobs_are_computed_from_the_raw_logits_in_float32() -> None:
    logits = LOGITS.expand(3, -1).to(torch.bfloat16)
    samplings = [
        SamplingParams(temperature=0, logprobs=2),
        SamplingParams(temperature=9, logprobs=0),
        SamplingParams(),
    ]
    first, second, third = sample(logits, samplings, [s.rng() for s in samplings])
    expected = logits[0].float().log_softmax(-1)
    assert first.logprob == pytest.approx(expected[0].item())
    assert first.top == [(0, pytest.approx(expected[0].item())), (1, pytest.approx(expected[1].item()))]
    assert second.logprob == pytest.approx(expected[second.token].item())
    assert second.top == []
    assert third.top == []
