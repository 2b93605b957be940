"""Tell which adapter answers, by replaying the contexts where it and its base disagree most.

Comparing texts proves nothing: greedy text changes with the batch, and a stale adapter differs from
the base too. Log-probabilities at chosen contexts do not lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Logprobs = Mapping[int, float]
"""Token id → log-probability, the most likely five."""

SHORT_CONTEXTS = 4


class Probe(BaseModel):
    """One context, and what base and adapter said to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: tuple[int, ...]
    base: dict[int, float]
    adapter: dict[int, float]


class Fingerprint(BaseModel):
    """The contexts that tell an adapter from its base.

    ``noise`` is the largest distance that batching alone caused, in nats.
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
        """The most telling contexts alone, for the moment of a swap.

        A wrong or stale adapter is far off at every context, so a few are enough to keep it from becoming
        public, and a swap waits for them beside running answers; all are replayed right after it.
        """
        return self.model_copy(update={"probes": self.probes[:SHORT_CONTEXTS]})


class Verdict(BaseModel):
    """What a replay showed."""

    model_config = ConfigDict(frozen=True)

    outcome: Literal["proven", "other", "not distinguishable"]
    matched: int
    of: int
    reason: str

    def __bool__(self) -> bool:
        return self.outcome == "proven"

    def __str__(self) -> str:
        return f"{self.outcome}: {self.matched} of {self.of} contexts; {self.reason}"


def distance(one: Logprobs, other: Logprobs) -> float:
    """Return the mean absolute difference in nats over the tokens that either side names.

    A token that a side does not name is taken at that side's lowest named value, the most it can be.
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

    ``old`` holds the old adapter's answers to the first contexts, in a swap. Each answer must lie nearer
    to the adapter than to the base and to the old adapter, by more than the noise. A context where the
    references themselves lie within noise of each other tells nothing and is not counted; where none
    is left, or none that the old adapter was asked, the verdict is "not distinguishable".
    """
    matched = told = told_from_old = 0
    nearest_miss = ""
    for index, (probe, answer) in enumerate(zip(fingerprint.probes, answers, strict=True)):
        others: dict[str, Logprobs] = {"the base model": probe.base}
        if old is not None and index < len(old):
            others["the old adapter"] = old[index]
        telling = {n: o for n, o in others.items() if distance(probe.adapter, o) > 2 * fingerprint.noise}
        if len(telling) < len(others):
            continue
        told += 1
        told_from_old += len(others) == 2
        own = distance(answer, probe.adapter)
        name, nearest = min(((n, distance(answer, o)) for n, o in telling.items()), key=lambda pair: pair[1])
        if own + fingerprint.noise < nearest:
            matched += 1
        elif not nearest_miss:
            nearest_miss = f"context {index} lies {own:.3f} from the adapter and {nearest:.3f} from {name}"
    if told == 0 or (old and told_from_old == 0):
        reason = f"all references lie within twice the noise ({fingerprint.noise:.2g} nats) of each other"
        return Verdict(outcome="not distinguishable", matched=0, of=len(fingerprint.probes), reason=reason)
    if matched == told:
        return Verdict(outcome="proven", matched=matched, of=told, reason="all lie nearest to this adapter")
    return Verdict(outcome="other", matched=matched, of=told, reason=nearest_miss)
