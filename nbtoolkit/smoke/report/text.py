"""The plain text of a smoke report, for logs and terminals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from functools import partial

from nbtoolkit.smoke.check import Check

_WIDTH = 100
wrap = partial(textwrap.wrap, break_on_hyphens=False, break_long_words=False)  # paths can be copied


def report_text(headline: str, facts: Mapping[str, str], checks: Iterable[Check], changes: list[str]) -> str:
    """Return a line per fact and check, failed checks first, then what changed since the previous report.

    Checks that were skipped for the same reason share a line.
    """
    lines = [headline, *(f"  {name:<11} {value}" for name, value in facts.items()), ""]
    urgent = by_urgency(checks)
    for one in urgent:
        if one.verdict != "skipped":
            lines += _check_lines(one)
    for reason, skipped in skipped_by_reason(urgent).items():
        ids = ", ".join(dict.fromkeys(one.id for one in skipped))
        head = f"{'SKIPPED':<9} "
        lines += wrap(f"{ids}: {reason}", _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    if changes:
        lines += ["", changes[0]]
        for line in changes[1:]:
            lines += wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _check_lines(one: Check) -> list[str]:
    head = f"{one.verdict.upper():<9} {one.id:<3} {one.level:<8} "
    space = " " * len(head)
    lines = wrap(f"{one.title}: {one.summary}", _WIDTH, initial_indent=head, subsequent_indent=space)
    if shows_remedy(one):
        lines += wrap(f"→ {one.remedy}", _WIDTH, initial_indent=space, subsequent_indent=f"{space}  ")
    return lines


def by_urgency(checks: Iterable[Check]) -> list[Check]:
    """Return the checks that need an action first; equal verdicts keep their order."""
    order = ("fail", "undecided", "warn", "pass", "skipped")
    return sorted(checks, key=lambda one: order.index(one.verdict))


def shows_remedy(one: Check) -> bool:
    """Return whether a check has a next step for the reader."""
    return bool(one.remedy) and one.verdict in ("fail", "warn", "undecided")


def skipped_by_reason(checks: Iterable[Check]) -> dict[str, list[Check]]:
    """Return the skipped checks by the reason for it."""
    found: dict[str, list[Check]] = {}
    for one in checks:
        if one.verdict == "skipped":
            found.setdefault(one.summary.removeprefix("skipped: "), []).append(one)
    return found
