"""Render a smoke report as plain text and as HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap

from nbtoolkit.smoke.check import Check, Verdict

_WIDTH = 100
_COLOURS = {
    "pass": "#1a7f37",
    "warn": "#9a6700",
    "fail": "#cf222e",
    "skipped": "#6e7781",
    "undecided": "#6e7781",
}


def render_text(headline: str, facts: Mapping[str, str], checks: Sequence[Check]) -> str:
    """Return the report as a plain-text table."""
    lines = [headline, *(f"  {name:<11} {value}" for name, value in facts.items()), ""]
    for one in checks:
        head = f"{one.verdict.upper():<9} {one.id:<3} {one.level:<8} "
        indent = " " * len(head)
        lines += wrap(f"{one.title}: {one.summary}", _WIDTH, initial_indent=head, subsequent_indent=indent)
        if one.remedy and one.verdict in ("fail", "warn"):
            lines += wrap(f"→ {one.remedy}", _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
    return "\n".join(lines)


def render_html(headline: str, verdict: Verdict, facts: Mapping[str, str], checks: Sequence[Check]) -> str:
    """Return the report as HTML: plain tables and details, inline styles, everything escaped."""
    rows = "".join(_row(one) for one in checks)
    about = "".join(
        f'<tr><td style="text-align:left;padding-right:1em">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<div><p style="color:{_COLOURS[verdict]};font-weight:bold">{escape(headline)}</p>'
        f'<table style="border-collapse:collapse">{rows}</table>'
        f"<details><summary>About this report</summary><table>{about}</table></details></div>"
    )


def _row(one: Check) -> str:
    cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px'
    evidence = json.dumps(one.evidence, indent=1, ensure_ascii=False)
    remedy = (
        f'<div style="font-weight:bold">→ {escape(one.remedy)}</div>'
        if one.remedy and one.verdict in ("fail", "warn")
        else ""
    )
    details = (
        f"<details><summary>evidence, {one.seconds:.2f} s</summary>"
        f'<pre style="white-space:pre-wrap">{escape(evidence)}</pre></details>'
        if one.evidence
        else ""
    )
    return (
        f'<tr>{cell};color:{_COLOURS[one.verdict]};font-weight:bold">{escape(one.verdict)}</td>'
        f'{cell}">{escape(one.id)}</td>{cell}">{escape(one.level)}</td>{cell}">{escape(one.title)}</td>'
        f'{cell}">{escape(one.summary)}{remedy}{details}</td></tr>'
    )
