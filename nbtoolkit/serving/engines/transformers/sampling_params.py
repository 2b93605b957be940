"""How a token is to be chosen, and what was chosen; no torch, so that the API can start without it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sampling:
    """How one row's tokens are chosen; ``temperature`` 0 takes the likeliest."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    logprobs: int | None = None
    """How many alternatives are told beside the chosen token; None tells nothing."""
    seed: int | None = None

    def rng(self) -> random.Random:
        """Return the row's own random numbers, so that a seed means the same in any batch."""
        return random.Random(self.seed)  # noqa: S311 - sampling, not secrets


@dataclass(frozen=True, slots=True)
class SampledToken:
    """One token, and where asked its log-probability and the likeliest alternatives."""

    token: int
    logprob: float = 0.0
    top: list[tuple[int, float]] = field(default_factory=list)
