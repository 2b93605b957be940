"""One check's result, and the register of the functions that do the checking.

Adding a check is adding one function to the module of its level::

    @check("A5", "static", "vocabulary, template")
    def vocabulary(subject: Subject) -> Outcome: ...
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

Level = Literal["static", "model", "contract"]
LEVELS: tuple[Level, ...] = ("static", "model", "contract")
Verdict = Literal["pass", "warn", "fail", "skipped", "undecided"]


class Check(BaseModel):
    """What one check found at one level.

    ``evidence`` holds what was seen, as plain JSON; ``remedy`` says what to do about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    level: Level
    title: str
    verdict: Verdict
    summary: str
    evidence: dict[str, Any] = {}
    remedy: str = ""
    seconds: float = 0.0

    @field_validator("evidence", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return _json_safe(value)


@dataclass(frozen=True)
class CheckOutcome:
    """What a check function returns; the register adds id, level, title and timing."""

    verdict: Verdict
    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict[str, Any])
    remedy: str = ""


Subject = TypeVar("Subject")


@dataclass(frozen=True)
class CheckFunction(Generic[Subject]):
    """A registered check."""

    id: str
    level: Level
    title: str
    run: Callable[[Subject], CheckOutcome]

    def __call__(self, subject: Subject) -> Check:
        """Run the check and time it; what it raises is the caller's to handle."""
        start = time.monotonic()
        outcome = self.run(subject)
        return self.result(outcome, time.monotonic() - start)

    def result(self, outcome: CheckOutcome, seconds: float = 0.0) -> Check:
        """Return an outcome as this check's result."""
        return Check(
            id=self.id,
            level=self.level,
            title=self.title,
            verdict=outcome.verdict,
            summary=outcome.summary,
            evidence=dict(outcome.evidence),
            remedy=outcome.remedy,
            seconds=round(seconds, 4),
        )

    def skipped(self, reason: str) -> Check:
        """Return this check as not run, with the reason."""
        return self.result(CheckOutcome("skipped", f"skipped: {reason}"))


REGISTER: list[CheckFunction[Any]] = []
"""Every check of the levels whose modules were imported, in the order of their definition."""


def check(
    id: str, level: Level, title: str
) -> Callable[[Callable[[Subject], CheckOutcome]], CheckFunction[Subject]]:
    """Register a function as the check ``id`` of ``level``."""

    def register(function: Callable[[Subject], CheckOutcome]) -> CheckFunction[Subject]:
        registered = CheckFunction(id, level, title, function)
        REGISTER.append(registered)
        return registered

    return register


def checks_of(level: Level) -> list[CheckFunction[Any]]:
    """Return the registered checks of a level, by id."""
    return sorted(
        (one for one in REGISTER if one.level == level), key=lambda one: (one.id[0], int(one.id[1:]))
    )


def shortened(items: list[str], keep: int = 8) -> str:
    """Return names as one readable list, the rest as a number."""
    rest = len(items) - keep
    return ", ".join(items[:keep]) + (f" and {rest} more" if rest > 0 else "")


def _json_safe(value: Any) -> Any:
    """Turn what JSON cannot hold (NaN, infinities, tuples, integer keys) into what it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _json_safe(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_json_safe(one) for one in value]
    return value
