"""Sample the next token of every row, and return its log-probabilities."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from .sequence import SampledToken, SamplingParams

_HEAD = 256
"""Number of most likely tokens that are sorted first; all are sorted only if top_p needs more."""


def sample(
    logits: torch.Tensor, samplings: Sequence[SamplingParams], rngs: Sequence[random.Random]
) -> list[SampledToken]:
    """Sample one token for each row of ``logits`` [rows, vocabulary].

    All greedy rows together cost one argmax. Log-probabilities are those of the raw logits in float32, before
    temperature, top-k and top-p.
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    sampled_rows = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if sampled_rows:
        sampled_logits = logits[sampled_rows] if len(sampled_rows) < len(samplings) else logits
        row_tokens = _sample_rows(
            sampled_logits.float(),
            [samplings[row] for row in sampled_rows],
            [rngs[row] for row in sampled_rows],
        )
        for row, token in zip(sampled_rows, row_tokens, strict=True):
            tokens[row] = token
    choices = [SampledToken(token) for token in tokens]
    requested = [row for row, sampling in enumerate(samplings) if sampling.logprobs is not None]
    if requested:
        for row, choice in zip(requested, _with_logprobs(logits, requested, tokens, samplings), strict=True):
            choices[row] = choice
    return choices


def _with_logprobs(
    logits: torch.Tensor, requested: list[int], tokens: list[int], samplings: Sequence[SamplingParams]
) -> list[SampledToken]:
    logprobs = logits[requested].float().log_softmax(dim=-1)
    sampled_logprobs = logprobs.gather(
        1, torch.tensor([[tokens[row]] for row in requested], device=logits.device)
    )
    max_count = max(samplings[row].logprobs or 0 for row in requested)
    best = logprobs.topk(max_count, dim=-1) if max_count else None
    values = best.values.tolist() if best else [[] for _ in requested]
    ids = best.indices.tolist() if best else [[] for _ in requested]
    choices: list[SampledToken] = []
    for at, row in enumerate(requested):
        count = samplings[row].logprobs or 0
        top = list(zip(ids[at][:count], values[at][:count], strict=True))
        choices.append(SampledToken(tokens[row], sampled_logprobs[at, 0].item(), top))
    return choices


def _sample_rows(
    logits: torch.Tensor, samplings: list[SamplingParams], rngs: list[random.Random]
) -> list[int]:
    """Sample by inverting the distribution function at one uniform number per row."""
    temperatures = torch.tensor([sampling.temperature for sampling in samplings], device=logits.device)
    # Shifted first: a division by a tiny temperature must not overflow into inf - inf.
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    probabilities = (shifted / temperatures[:, None]).softmax(dim=-1)
    uniform = torch.tensor([rng.random() for rng in rngs], device=logits.device)
    vocabulary = logits.shape[-1]
    if all(sampling.top_p >= 1 and not 0 < sampling.top_k < vocabulary for sampling in samplings):
        at = _invert(probabilities, uniform)
        return at.tolist()
    top_p = torch.tensor([sampling.top_p for sampling in samplings], device=logits.device)
    top_k = torch.tensor([sampling.top_k or vocabulary for sampling in samplings], device=logits.device)
    head = min(vocabulary, _HEAD)
    best = probabilities.topk(head, dim=-1)
    enough = (best.values.sum(dim=-1) >= top_p) | (top_k <= head)
    if head < vocabulary and not bool(enough.all()):
        head = vocabulary
        best = probabilities.sort(dim=-1, descending=True)
    rank = torch.arange(head, device=logits.device)
    kept = best.values.masked_fill(rank >= top_k[:, None], 0)
    # Top-p applies to the top-k tokens, as in other servers. A token stays while the sum before it is less.
    before = kept.cumsum(dim=-1) - kept
    total = kept.sum(dim=-1, keepdim=True) if bool((top_k < vocabulary).any()) else 1.0
    kept = kept.masked_fill(before >= top_p[:, None] * total, 0)
    kept[:, 0] = best.values[:, 0]  # at least one token, however small top_p is
    at = _invert(kept, uniform)
    return best.indices.gather(1, at[:, None]).squeeze(1).tolist()


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    summed = weights.cumsum(dim=-1)
    at = torch.searchsorted(summed, (uniform * summed[:, -1])[:, None], right=True).squeeze(1)
    # By rounding, the number can exceed the last sum; the last token with a weight is then meant.
    last = (weights > 0).long().cumsum(dim=-1).argmax(dim=-1)
    return torch.minimum(at, last)
