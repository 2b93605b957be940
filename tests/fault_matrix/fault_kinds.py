"""Kinds of faults in Azure's responses, and the operations to which each applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.azure_double import faults

from .operations import Operation

ALWAYS = 1_000_000
WITH_TOKEN = ("arm", "files", "streams")
READS = ("listsecrets", "listkeys", "getauthtoken", "checknameavailability", "validate", "whatif")


@dataclass(frozen=True)
class FaultKind:
    """A fault, how many requests in a row it hits, and the operations to which it applies."""

    name: str
    fault: faults.Fault
    applies_to: Callable[[Operation], bool] = lambda _: True
    times: int = 1


def has_body(operation: Operation) -> bool:
    """Return whether requests of an operation have a body."""
    return operation.method in ("PUT", "POST", "PATCH") and "rename" not in operation.subject


def is_app_change(operation: Operation) -> bool:
    """Return whether Container Apps may refuse an operation while another change is in progress."""
    writes = operation.plane == "arm" and operation.method in ("PUT", "PATCH", "POST", "DELETE")
    return writes and "Microsoft.App/" in operation.subject and not operation.subject.endswith(READS)


def has_token(operation: Operation) -> bool:
    """Return whether requests of an operation have an access token."""
    return operation.plane in WITH_TOKEN


FAULT_KINDS = (
    FaultKind("429 with Retry-After", faults.Throttled(5)),
    FaultKind("503", faults.Broken(503, "ServiceUnavailable")),
    FaultKind("reset before the response", faults.Reset("before")),
    FaultKind("reset in the request's body", faults.Reset("upload"), has_body),
    FaultKind("reset in the response", faults.Reset("answer")),
    FaultKind("done and the response lost", faults.Reset("lost")),
    FaultKind("slow response", faults.Slow(300)),
    FaultKind("expired token", faults.ExpiredToken(), has_token),
    FaultKind("lock conflict", faults.lock_conflict(), is_app_change, times=2),
    FaultKind("503 always", faults.Broken(503, "ServiceUnavailable"), times=ALWAYS),
    FaultKind("unreachable always", faults.Reset("before"), times=ALWAYS),
    FaultKind("token refused always", faults.ExpiredToken(), has_token, times=ALWAYS),
)
"""A fault of one or two requests must be retried; one of all requests must be reported without damage."""

BY_NAME = {kind.name: kind for kind in FAULT_KINDS}
