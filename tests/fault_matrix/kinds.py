"""The ways in which an answer of Azure fails, and which operations each of them can meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.azure_double import faults

from .operations import Operation

FOREVER = 1_000_000
WITH_TOKEN = ("arm", "files", "streams")
READS = ("listsecrets", "listkeys", "getauthtoken", "checknameavailability", "validate", "whatif")


@dataclass(frozen=True)
class Kind:
    """One way to fail: what strikes, how often, and what it can strike."""

    name: str
    strike: faults.Kind
    meets: Callable[[Operation], bool] = lambda _: True
    times: int = 1

    @property
    def lasting(self) -> bool:
        """Whether it goes on until the step has ended."""
        return self.times == FOREVER


def has_body(operation: Operation) -> bool:
    """Whether such requests carry something."""
    return operation.method in ("PUT", "POST", "PATCH") and "rename" not in operation.subject


def is_change_of_apps(operation: Operation) -> bool:
    """Whether Container Apps may refuse it while it is busy with another change."""
    writes = operation.plane == "arm" and operation.method in ("PUT", "PATCH", "POST", "DELETE")
    return writes and "Microsoft.App/" in operation.subject and not operation.subject.endswith(READS)


def asks_by_token(operation: Operation) -> bool:
    """Whether such requests say who asks."""
    return operation.plane in WITH_TOKEN


KINDS = (
    Kind("429 with Retry-After", faults.Throttled(5)),
    Kind("503", faults.Broken(503, "ServiceUnavailable")),
    Kind("reset before the answer", faults.Reset("before")),
    Kind("reset in what is sent", faults.Reset("upload"), has_body),
    Kind("reset in the answer", faults.Reset("answer")),
    Kind("done and the answer lost", faults.Reset("lost")),
    Kind("slow answer", faults.Slow(300)),
    Kind("expired token", faults.ExpiredToken(), asks_by_token),
    Kind("lock conflict", faults.lock_conflict(), is_change_of_apps, times=2),
    Kind("503 for good", faults.Broken(503, "ServiceUnavailable"), times=FOREVER),
    Kind("out of reach for good", faults.Reset("before"), times=FOREVER),
    Kind("token refused for good", faults.ExpiredToken(), asks_by_token, times=FOREVER),
)
"""Once or twice, as a caller should bear it; and for good, when it should say so and leave nothing half."""

BY_NAME = {kind.name: kind for kind in KINDS}
