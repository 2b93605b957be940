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
MEAN_FACTOR = 2.0
"""Equal answers are on average at most this times the mean noise from their reference, plus the floor."""
WORST_FACTOR = 4.0
"""Each equal answer is at most this times the largest noise from its reference, plus the floor."""
FLOOR = 1e-4
"""Nats that are always tolerated: other kernels round float32 differently."""


class Probe(BaseModel):
    """One context, and the log-probabilities of base and adapter there.

    ``noise`` maps a server's dtype to the distance in nats that batching and this dtype alone explain.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: tuple[int, ...]
    base: dict[int, float]
    adapter: dict[int, float]
    noise: dict[str, float]

    def noise_in(self, dtype: str | None) -> float:
        """Return the noise of a server's dtype, or the largest if it is unknown."""
        return self.noise[dtype] if dtype in self.noise else max(self.noise.values())


class Fingerprint(BaseModel):
    """The contexts that distinguish an adapter from its base, with the answers of both in ``dtype``.

    The base's answers are from before the adapter was attached, the adapter's from peft.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter_sha256: str
    base_sha256: str
    dtype: str
    probes: tuple[Probe, ...]

    @property
    def contexts(self) -> list[list[int]]:
        """The contexts to replay."""
        return [list(probe.context) for probe in self.probes]

    @property
    def noise(self) -> float:
        """The largest noise of a server in the fingerprint's own dtype, in nats."""
        return max(probe.noise_in(self.dtype) for probe in self.probes)

    @property
    def shortened(self) -> Fingerprint:
        """The most distinctive contexts only, for the moment of a swap.

        A wrong or stale adapter is far off at every context, so that a few suffice to keep it from becoming
        public, and a swap waits for them while other answers run. All contexts are replayed right after it.
        """
        return self.model_copy(update={"probes": self.probes[:SHORT_CONTEXTS]})


class Agreement(BaseModel):
    """How far answers are from the answers of a reference, and how far noise alone may move them, in nats."""

    model_config = ConfigDict(frozen=True)

    mean: float
    mean_limit: float
    worst: float
    worst_limit: float
    worst_context: int
    matched: int
    of: int

    def __bool__(self) -> bool:
        return self.mean <= self.mean_limit and self.worst <= self.worst_limit

    def __str__(self) -> str:
        return (
            f"{self.mean:.3g} nats on average (limit {self.mean_limit:.3g}), {self.worst:.3g} at context "
            f"{self.worst_context} (limit {self.worst_limit:.3g})"
        )


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


class Verdict(BaseModel):
    """The result of a replay: how far each set of answers is from its reference.

    ``proven`` needs all of these: the answers under the adapter's name equal the adapter's within the noise,
    those under the base's name, if replayed, equal the base's, and the adapter's own reference is further
    from the base, and from the previous adapter, than the noise.
    """

    model_config = ConfigDict(frozen=True)

    outcome: Literal["proven", "adapter differs", "base differs", "not distinguishable"]
    reason: str
    adapter: Agreement
    base: Agreement | None = None

    def __bool__(self) -> bool:
        return self.outcome == "proven"

    @property
    def refuted(self) -> bool:
        """Whether something else than adapter and base answers under their names."""
        return self.outcome in ("adapter differs", "base differs")

    def __str__(self) -> str:
        return f"{self.outcome}: {self.adapter.matched} of {self.adapter.of} contexts; {self.reason}"


def judge(
    fingerprint: Fingerprint,
    answers: Sequence[Logprobs],
    base: Sequence[Logprobs] | None = None,
    *,
    old: Sequence[Logprobs] | None = None,
    dtype: str | None = None,
) -> Verdict:
    """Judge the answers of a server to a fingerprint's contexts, or to the first of them.

    ``answers`` are those under the adapter's name, ``base`` those under the base's name, ``old`` those of the
    adapter that was served before a hot swap. ``dtype`` is the server's; if it is unknown, the largest noise
    counts.
    """
    probes = fingerprint.probes
    adapter_references, base_references = [p.adapter for p in probes], [p.base for p in probes]

    def compare(given: Sequence[Logprobs], references: Sequence[Logprobs]) -> Agreement:
        noise = [probe.noise_in(dtype) for probe in probes]
        return _agreement(given, references, noise)

    own = compare(answers, adapter_references)
    on_base = None if base is None else compare(base, base_references)
    others = {"the base": compare(base_references, adapter_references)}
    if old:
        others["the previous adapter"] = compare(old, adapter_references)
    near = {name: agreement for name, agreement in others.items() if agreement}
    if not own:
        to_base = compare(answers, base_references)
        nearer = f"; it is the base that answers: {to_base}" if to_base else ""
        reason = f"the answers under the adapter's name are {own} from the adapter{nearer}"
        outcome = "adapter differs"
    elif on_base is not None and not on_base:
        outcome, reason = "base differs", f"the answers under the base's name are {on_base} from the base"
    elif near:
        outcome = "not distinguishable"
        reason = "; ".join(f"the adapter is only {how} from {name}" for name, how in near.items())
    else:
        outcome, reason = "proven", f"the answers are {own} from the adapter"
        reason += f", {on_base} from the base" if on_base else "; the base was not replayed"
    return Verdict(outcome=outcome, reason=reason, adapter=own, base=on_base)


def _agreement(
    answers: Sequence[Logprobs], references: Sequence[Logprobs], noise: Sequence[float]
) -> Agreement:
    """Compare answers with the first references."""
    count = len(answers)
    distances = [distance(*pair) for pair in zip(answers, references[:count], strict=True)]
    worst = max(range(count), key=distances.__getitem__)
    worst_limit = FLOOR + WORST_FACTOR * max(noise[:count])
    return Agreement(
        mean=sum(distances) / count,
        mean_limit=FLOOR + MEAN_FACTOR * sum(noise[:count]) / count,
        worst=distances[worst],
        worst_limit=worst_limit,
        worst_context=worst,
        matched=sum(one <= worst_limit for one in distances),
        of=count,
    )
