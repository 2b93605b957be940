"""The plain text of a smoke report, for logs and terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from functools import partial

from nbtoolkit.smoke.check import Check

_WIDTH = 100
wrap = partial(textwrap.wrap, break_on_hyphens=False, break_long_words=False)  # paths can be copied


def report_text(headline: str, facts: Mapping[str, str], checks: Iterable[Check], changes: list[str]) -> str:
    """Return a line per fact and check, failed checks first, then what changed since the previous report."""
    lines = [headline, *(f"  {name:<11} {value}" for name, value in facts.items()), ""]
    for one in by_urgency(checks):
        head = f"{one.verdict.upper():<9} {one.id:<3} {one.level:<8} "
        space = " " * len(head)
        lines += wrap(f"{one.title}: {one.summary}", _WIDTH, initial_indent=head, subsequent_indent=space)
        if shows_remedy(one):
            lines += wrap(f"→ {one.remedy}", _WIDTH, initial_indent=space, subsequent_indent=f"{space}  ")
    if changes:
        lines += ["", changes[0]]
        for line in changes[1:]:
            lines += wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def by_urgency(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that need an action first; equal verdicts keep their order."""
    order = ("fail", "undecided", "warn", "pass", "skipped")
    return sorted(checks, key=lambda one: order.index(one.verdict))


def shows_remedy(one: Check) -> bool:
    """Return whether a check has a next step for the reader."""
    return bool(one.remedy) and one.verdict in ("fail", "warn", "undecided")
