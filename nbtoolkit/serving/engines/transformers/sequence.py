"""One generated sequence: sampling parameters, tokens, text and events of an answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tokenizers import Tokenizer

from ...openai_format import ApiError
from .detokenizer import Detokenizer, StopFilter

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """How one row's tokens are sampled; ``temperature`` 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    logprobs: int | None = None
    """Number of alternatives to return for each token; None returns no log-probabilities."""
    seed: int | None = None

    def rng(self) -> random.Random:
        """Return the row's own random generator: a seed gives the same numbers in any batch."""
        return random.Random(self.seed)  # noqa: S311 - sampling, not secrets


@dataclass(frozen=True, slots=True)
class SampledToken:
    """One token, with its log-probability and the most likely alternatives if requested."""

    token: int
    logprob: float = 0.0
    top: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probabilities, and the offset of its text in the answer."""

    choice: SampledToken
    offset: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """The text and tokens that one step added to an answer."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    tokens: int = 0
    """Number of tokens of the answer so far."""
    finish: FinishReason | None = None
    error: ApiError | None = None


class Sequence:
    """A prompt, its sampling parameters, and the answer so far.

    ``deliver`` receives a :class:`TokenEvent` per step, in the scheduler's thread.
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
        self._logprobs: list[TokenLogprob] = []
        self._decoded = 0
        self._shown = 0

    @property
    def tokens(self) -> list[int]:
        """Prompt and answer."""
        return self.prompt + self.answer

    @property
    def length(self) -> int:
        """Number of tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)

    @property
    def last(self) -> int:
        """The newest token, which is not in a cache yet."""
        return self.answer[-1] if self.answer else self.prompt[-1]

    def append(self, choice: SampledToken) -> FinishReason | None:
        """Add a token, deliver new text, and return the finish reason if the answer is finished."""
        self.answer.append(choice.token)
        if self.sampling.logprobs is not None:
            self._logprobs.append(TokenLogprob(choice, self._decoded))
        if choice.token in self._stop_ids:
            # Its own text is not part of the answer; text that was held back is.
            return self._end("stop", self._detokenizer.finish())
        text = self._detokenizer.step(choice.token)
        if len(self.answer) >= self._max_tokens:
            return self._end("length", text + self._detokenizer.finish())
        self._decoded += len(text)
        shown = self._filter.push(text)
        if self._filter.stopped:
            return self._finish("stop", shown)
        self._shown += len(shown)
        logprobs: tuple[TokenLogprob, ...] = ()
        if not self._filter.is_holding and self._logprobs:
            logprobs, self._logprobs = tuple(self._logprobs), []
        if shown or logprobs:
            self.deliver(TokenEvent(shown, logprobs, len(self.answer)))
        return None

    def fail(self, error: ApiError) -> None:
        """Deliver the error that ends the answer."""
        self.deliver(TokenEvent(tokens=len(self.answer), error=error))

    def _end(self, reason: FinishReason, text: str) -> FinishReason:
        shown = self._filter.push(text)
        if self._filter.stopped:
            return self._finish("stop", shown)
        return self._finish(reason, shown + self._filter.finish())

    def _finish(self, reason: FinishReason, shown: str) -> FinishReason:
        self._shown += len(shown)
        # Tokens of a stop string have no log-probabilities, as their text is not part of the answer.
        cut = self._shown if self._filter.stopped else None
        logprobs = tuple(entry for entry in self._logprobs if cut is None or entry.offset < cut)
        self.deliver(TokenEvent(shown, logprobs, len(self.answer), reason))
        return reason
