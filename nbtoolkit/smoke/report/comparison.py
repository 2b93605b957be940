"""Compare a smoke report with the newest one of another adapter on the same base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from nbtoolkit.smoke.check import Check, Verdict

_FIGURES = {
    "kl_nats": "effect (KL, nats)",
    "seconds_to_first_token": "time to first token (s)",
    "tokens_per_second": "tokens/s",
    "peak_gib": "peak memory (GiB)",
    "must_passed": "golden musts passed",
    "nice_passed": "golden nices passed",
}
"""Keys of the evidence whose values two adapters can be compared by."""
_SMALL = 0.05
"""A smaller relative change of a figure is not listed."""


class VerdictChange(BaseModel):
    """A check of both reports with another verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    before: Verdict
    now: Verdict

    def __str__(self) -> str:
        return f"{self.id} {self.title}: {self.before} → {self.now}"


class FigureChange(BaseModel):
    """A measured figure that differs by more than 5 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str
    before: float
    now: float

    def __str__(self) -> str:
        return f"{self.id} {self.name}: {self.before:.3g} → {self.now:.3g}"


class ReportComparison(BaseModel):
    """What differs from the report of the previous adapter on the same base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter: str
    adapter_sha256: str
    report_sha256: str
    created: datetime
    verdicts: tuple[VerdictChange, ...] = ()
    figures: tuple[FigureChange, ...] = ()

    @property
    def heading(self) -> str:
        """One line that names the previous report."""
        previous = f"{self.adapter} ({self.adapter_sha256[:8]}…, {self.created:%Y-%m-%d %H:%M} UTC)"
        nothing = "" if self.verdicts or self.figures else ": nothing changed"
        return f"Compared with the previous adapter {previous}{nothing}"

    @property
    def lines(self) -> list[str]:
        """The heading, then a line per change."""
        return [self.heading, *map(str, self.verdicts), *map(str, self.figures)]


def verdict_changes(before: Iterable[Check], now: Iterable[Check]) -> tuple[VerdictChange, ...]:
    """Return the checks whose verdicts differ, of those that ran for both reports at the same level."""
    old = _by_key(before)
    return tuple(
        VerdictChange(id=one.id, title=one.title, before=old[key].verdict, now=one.verdict)
        for key, one in _by_key(now).items()
        if key in old and old[key].verdict != one.verdict and "skipped" not in (old[key].verdict, one.verdict)
    )


def figure_changes(before: Iterable[Check], now: Iterable[Check]) -> tuple[FigureChange, ...]:
    """Return the figures that both reports have and that differ by more than 5 %."""
    old, new = _by_key(before), _by_key(now)
    changes: list[FigureChange] = []
    for key in new.keys() & old.keys():
        for figure, name in _FIGURES.items():
            was, is_ = _number(old[key].evidence, figure), _number(new[key].evidence, figure)
            if was is not None and is_ is not None and abs(is_ - was) > _SMALL * abs(was):
                changes.append(FigureChange(id=key[0], name=name, before=was, now=is_))
    return tuple(sorted(changes, key=lambda one: (one.id, one.name)))


def _by_key(checks: Iterable[Check]) -> dict[tuple[str, str], Check]:
    return {(one.id, one.level): one for one in checks}


def _number(evidence: Mapping[str, Any], key: str) -> float | None:
    value = evidence.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
