"""The next token of every row, and its log-probabilities."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from .sequence import SampledToken, SamplingParams

_HEAD = 256
"""How many of the likeliest tokens are sorted at first; all only where top_p needs more."""


def sample(
    logits: torch.Tensor, samplings: Sequence[SamplingParams], dice: Sequence[random.Random]
) -> list[SampledToken]:
    """Choose one token for each row of ``logits`` [rows, vocabulary].

    All greedy rows cost one argmax together. Log-probabilities are those of the raw logits in
    float32, before temperature and cuts.
    """
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    if drawn:
        picked = logits[drawn] if len(drawn) < len(samplings) else logits
        draws = _draw(picked.float(), [samplings[row] for row in drawn], [dice[row] for row in drawn])
        for row, token in zip(drawn, draws, strict=True):
            tokens[row] = token
    choices = [SampledToken(token) for token in tokens]
    told = [row for row, sampling in enumerate(samplings) if sampling.logprobs is not None]
    if told:
        for row, choice in zip(told, _tell(logits, told, tokens, samplings), strict=True):
            choices[row] = choice
    return choices


def _tell(
    logits: torch.Tensor, told: list[int], tokens: list[int], samplings: Sequence[SamplingParams]
) -> list[SampledToken]:
    logprobs = logits[told].float().log_softmax(dim=-1)
    own = logprobs.gather(1, torch.tensor([[tokens[row]] for row in told], device=logits.device))
    most = max(samplings[row].logprobs or 0 for row in told)
    best = logprobs.topk(most, dim=-1) if most else None
    values = best.values.tolist() if best else [[] for _ in told]
    ids = best.indices.tolist() if best else [[] for _ in told]
    choices: list[SampledToken] = []
    for at, row in enumerate(told):
        count = samplings[row].logprobs or 0
        top = list(zip(ids[at][:count], values[at][:count], strict=True))
        choices.append(SampledToken(tokens[row], own[at, 0].item(), top))
    return choices


def _draw(logits: torch.Tensor, samplings: list[SamplingParams], dice: list[random.Random]) -> list[int]:
    """Draw by inverting the distribution function at one uniform number a row."""
    temperatures = torch.tensor([sampling.temperature for sampling in samplings], device=logits.device)
    # Shifted first: dividing by a tiny temperature must not overflow into inf - inf.
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    probabilities = (shifted / temperatures[:, None]).softmax(dim=-1)
    uniform = torch.tensor([die.random() for die in dice], device=logits.device)
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
    # Top-p counts within what top-k left, as everywhere. A token stays while those before it do not suffice.
    before = kept.cumsum(dim=-1) - kept
    whole = kept.sum(dim=-1, keepdim=True) if bool((top_k < vocabulary).any()) else 1.0
    kept = kept.masked_fill(before >= top_p[:, None] * whole, 0)
    kept[:, 0] = best.values[:, 0]  # never nothing, however small top_p is
    at = _invert(kept, uniform)
    return best.indices.gather(1, at[:, None]).squeeze(1).tolist()


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    summed = weights.cumsum(dim=-1)
    at = torch.searchsorted(summed, (uniform * summed[:, -1])[:, None], right=True).squeeze(1)
    # Rounding can leave the number beyond the last sum; the last token with weight is meant.
    last = (weights > 0).long().cumsum(dim=-1).argmax(dim=-1)
    return torch.minimum(at, last)
