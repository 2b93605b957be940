"""One answer from its request to its last token."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tokenizers import Tokenizer

from ...openai_errors import ApiError
from .detokenizer import Detokenizer, StopFilter

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
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


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probabilities, and where its text begins in the answer."""

    choice: SampledToken
    offset: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What one step added to an answer."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: int = 0
    """Tokens of the answer so far."""
    finish: FinishReason | None = None
    error: ApiError | None = None


class Sequence:
    """A prompt, how to go on from it, and what came so far.

    ``deliver`` receives an :class:`Event` per step, in the decode loop's thread.
    """

    def __init__(
        self,
        prompt: list[int],
        *,
        adapter: str | None,
        sampling: SamplingParams,
        max_tokens: int,
        stop_ids: frozenset[int],
        stops: list[str],
        tokenizer: Tokenizer,
        deliver: Callable[[TokenEvent], None],
    ) -> None:
        self.prompt = prompt
        self.adapter = adapter
        self.sampling = sampling
        self.rng = sampling.rng()
        self.answer: list[int] = []
        self.deliver = deliver
        self.cancelled = False
        self._max_tokens = max_tokens
        self._stop_ids = stop_ids
        self._filter = StopFilter(stops)
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._told: list[TokenLogprob] = []
        self._decoded = 0
        self._shown = 0

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer."""
        return self.prompt + self.answer

    @property
    def length(self) -> int:
        """How many tokens prompt and answer have."""
        return len(self.prompt) + len(self.answer)

    @property
    def last(self) -> int:
        """The newest token, which no cache holds yet."""
        return self.answer[-1] if self.answer else self.prompt[-1]

    def append(self, choice: SampledToken) -> FinishReason | None:
        """Add a token, deliver what may be shown, and tell whether the answer is finished."""
        self.answer.append(choice.token)
        if self.sampling.logprobs is not None:
            self._told.append(TokenLogprob(choice, self._decoded))
        if choice.token in self._stop_ids:
            # Its text is not part of the answer; what was held back in vain is.
            return self._end("stop", self._detokenizer.finish())
        text = self._detokenizer.step(choice.token)
        if len(self.answer) >= self._max_tokens:
            return self._end("length", text + self._detokenizer.finish())
        self._decoded += len(text)
        shown = self._filter.push(text)
        if self._filter.stopped:
            return self._finish("stop", shown)
        self._shown += len(shown)
        told: tuple[TokenLogprob, ...] = ()
        if not self._filter.is_holding and self._told:
            told, self._told = tuple(self._told), []
        if shown or told:
            self.deliver(TokenEvent(shown, told, len(self.answer)))
        return None

    def fail(self, error: ApiError) -> None:
        """Deliver why there will be no more."""
        self.deliver(TokenEvent(tokens=len(self.answer), error=error))

    def _end(self, reason: FinishReason, text: str) -> FinishReason:
        shown = self._filter.push(text)
        if self._filter.stopped:
            return self._finish("stop", shown)
        return self._finish(reason, shown + self._filter.finish())

    def _finish(self, reason: FinishReason, shown: str) -> FinishReason:
        self._shown += len(shown)
        # Tokens of a stop string are not told, as their text is not.
        cut = self._shown if self._filter.stopped else None
        told = tuple(told for told in self._told if cut is None or told.offset < cut)
        self.deliver(TokenEvent(shown, told, len(self.answer), reason))
        return reason
