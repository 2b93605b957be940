"""The requests of a live proof: replays on every replica, golden prompts, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from nbtoolkit.deployment.fingerprint_proof import BUSY, retry_busy
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import RequestRefused
from nbtoolkit.golden.prompts import GoldenPrompt
from nbtoolkit.golden.scoring import score
from nbtoolkit.progress import Progress
from nbtoolkit.serving.fingerprint import Fingerprint, Logprobs
from nbtoolkit.utils.threads import run_cancellable

T = TypeVar("T")

_ATTEMPTS_PER_REPLICA = 5
"""Requests per replica until one that did not answer counts as not reached: the ingress chooses."""


@dataclass(frozen=True)
class ProofCost:
    """What a proof has cost: requests, their tokens, and whether it started a replica.

    ``golden_tokens`` is the most that the answers to ``golden_prompts`` may have; the other tokens are those
    of the replays.
    """

    requests: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    golden_prompts: int = 0
    golden_tokens: int = 0
    seconds: float = 0.0
    woke: bool = False

    def __str__(self) -> str:
        text = (
            f"{self.requests} requests, {self.prompt_tokens:,} prompt tokens, "
            f"{self.answer_tokens:,} answer tokens, "
        )
        if self.golden_prompts:
            text += (
                f"{self.golden_prompts} golden prompts of at most {self.golden_tokens:,} tokens together, "
            )
        text += f"{self.seconds:.1f} s"
        return f"{text}; it started a replica, which is billed until it sleeps again" if self.woke else text


@dataclass(frozen=True)
class GoldenResult:
    """How many of an adapter's golden prompts with a ``must`` pass, and why the others fail, by prompt."""

    asked: int
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return not self.failed

    def __str__(self) -> str:
        text = f"{self.asked - len(self.failed)} of {self.asked} golden prompts pass their musts"
        return "\n".join([text, *(f"{name}: {reason}" for name, reason in self.failed.items())])


class ProofRequests:
    """Send the requests of a proof and count what they cost; each can be cancelled."""

    def __init__(self, endpoint: Endpoint, replicas: Sequence[str], progress: Progress) -> None:
        self.replicas = tuple(replicas)
        self.cost = ProofCost()
        self._endpoint = endpoint
        self._progress = progress

    def replay(self, model: str, fingerprint: Fingerprint) -> dict[str, list[Logprobs]]:
        """Replay contexts under a model's name until each replica has answered; return answers by replica."""
        self._progress.phase(f"Proving what answers under {model}")
        contexts = fingerprint.contexts
        found: dict[str, list[Logprobs]] = {}
        for attempt in range(max(1, _ATTEMPTS_PER_REPLICA * len(self.replicas))):
            replay = self._send(partial(self._endpoint.replay_named, model, contexts))
            found.setdefault(replay.replica or "of an older version", list(replay.answers))
            self.cost = replace(
                self.cost,
                requests=self.cost.requests + 1,
                prompt_tokens=self.cost.prompt_tokens + sum(map(len, contexts)),
                answer_tokens=self.cost.answer_tokens + len(contexts),
            )
            self._progress.advance(attempt + 1, None, "requests")
            if replay.replica is None or set(self.replicas) <= found.keys():
                break
        return found

    def ask_golden(self, model: str, prompts: Sequence[GoldenPrompt], *, chat: bool = True) -> GoldenResult:
        """Ask every golden prompt that has a ``must`` once, and score the answers.

        Without ``chat``, for a release without a chat template, plain text is asked, as G5 does.
        """
        asked = [prompt for prompt in prompts if prompt.must]
        failed: dict[str, str] = {}
        self._progress.phase(f"Asking {model} its golden prompts")
        for number, prompt in enumerate(asked):
            self._progress.advance(number, len(asked), "prompts")
            try:
                ask = (
                    partial(self._endpoint.chat, prompt.chat, model, stream=False)
                    if chat
                    else partial(self._endpoint.complete, prompt.text, model)
                )
                answer = self._send(partial(ask, max_tokens=prompt.max_tokens, temperature=0))
                problems = score(prompt, answer).failed_must
            except RequestRefused as error:
                if error.status in BUSY:
                    raise
                problems = (error.message,)
            if problems:
                failed[prompt.id] = "; ".join(problems)
            self.cost = replace(
                self.cost,
                requests=self.cost.requests + 1,
                golden_prompts=self.cost.golden_prompts + 1,
                golden_tokens=self.cost.golden_tokens + prompt.max_tokens,
            )
        return GoldenResult(len(asked), failed)

    def _send(self, request: Callable[[], T]) -> T:
        return retry_busy(self._progress, lambda: run_cancellable(self._progress, request))
