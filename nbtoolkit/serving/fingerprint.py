"""Prove which adapter serves, by log-probabilities at contexts where adapter and base differ most.

Comparing texts proves nothing: greedy text changes with the batch, and a stale adapter differs from
the base too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Logprobs = Mapping[int, float]
"""Token id → log-probability, of the five most likely tokens."""

SHORT_CONTEXTS = 4


class Probe(BaseModel):
    """One context, and the log-probabilities of base and adapter there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: tuple[int, ...]
    base: dict[int, float]
    adapter: dict[int, float]


class Fingerprint(BaseModel):
    """The contexts that distinguish an adapter from its base.

    ``noise`` is the largest distance caused by batching alone, in nats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter_sha256: str
    base_sha256: str
    dtype: str
    noise: float
    probes: tuple[Probe, ...]

    @property
    def contexts(self) -> list[list[int]]:
        """The contexts to replay."""
        return [list(probe.context) for probe in self.probes]

    @property
    def shortened(self) -> Fingerprint:
        """The most distinctive contexts only, for the moment of a swap.

        A wrong or stale adapter is far off at every context, so that a few suffice to keep it from becoming
        public, and a swap waits for them while other answers run. All contexts are replayed right after it.
        """
        return self.model_copy(update={"probes": self.probes[:SHORT_CONTEXTS]})


class Verdict(BaseModel):
    """The result of a replay."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["proven", "other", "not distinguishable"]
    matched: int
    of: int
    reason: str

    def __bool__(self) -> bool:
        return self.outcome == "proven"

    def __str__(self) -> str:
        return f"{self.outcome}: {self.matched} of {self.of} contexts; {self.reason}"


def replay_request(model: str, contexts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the body of the ``/v1/completions`` request that replays contexts on a model."""
    return {
        "model": model,
        "prompt": [list(context) for context in contexts],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 5,
        "return_tokens_as_token_ids": True,
    }


def replayed_logprobs(response: Mapping[str, Any]) -> list[dict[int, float]]:
    """Return the likeliest next tokens after each context: token id → log-probability."""
    choices = sorted(response["choices"], key=lambda choice: choice["index"])
    tops = [choice["logprobs"]["top_logprobs"][0] for choice in choices]
    return [{int(k.removeprefix("token_id:")): float(v) for k, v in top.items()} for top in tops]


def distance(one: Logprobs, other: Logprobs) -> float:
    """Return the mean absolute difference in nats over the tokens that either side lists.

    A token that a side does not list counts with that side's lowest listed value, its upper bound.
    """
    floor_one, floor_other = min(one.values()), min(other.values())
    ids = one.keys() | other.keys()
    return sum(abs(one.get(i, floor_one) - other.get(i, floor_other)) for i in ids) / len(ids)


def judge(
    fingerprint: Fingerprint,
    answers: Sequence[Logprobs],
    old: Sequence[Logprobs] | None = None,
) -> Verdict:
    """Judge the answers to a fingerprint's contexts.

    ``old`` holds the old adapter's answers to the first contexts, in a swap. Each answer must be closer to
    the adapter than to the base and to the old adapter, by more than the noise. A context whose references
    are within twice the noise of each other is not counted. If no context is counted, or none that the old
    adapter answered, the verdict is "not distinguishable".
    """
    matched = counted = counted_with_old = 0
    nearest_miss = ""
    for index, (probe, answer) in enumerate(zip(fingerprint.probes, answers, strict=True)):
        others: dict[str, Logprobs] = {"the base model": probe.base}
        if old is not None and index < len(old):
            others["the old adapter"] = old[index]
        distinct = {n: o for n, o in others.items() if distance(probe.adapter, o) > 2 * fingerprint.noise}
        if len(distinct) < len(others):
            continue
        counted += 1
        counted_with_old += len(others) == 2
        own_distance = distance(answer, probe.adapter)
        name, nearest = min(((n, distance(answer, o)) for n, o in distinct.items()), key=lambda pair: pair[1])
        if own_distance + fingerprint.noise < nearest:
            matched += 1
        elif not nearest_miss:
            nearest_miss = (
                f"context {index} is {own_distance:.3f} from the adapter and {nearest:.3f} from {name}"
            )
    if counted == 0 or (old and counted_with_old == 0):
        reason = f"all references are within twice the noise ({fingerprint.noise:.2g} nats) of each other"
        return Verdict(outcome="not distinguishable", matched=0, of=len(fingerprint.probes), reason=reason)
    if matched == counted:
        return Verdict(
            outcome="proven", matched=matched, of=counted, reason="all are closest to this adapter"
        )
    return Verdict(outcome="other", matched=matched, of=counted, reason=nearest_miss)
