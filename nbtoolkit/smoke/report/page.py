"""The notebook page of a smoke report: failed checks first, evidence folded, plots, and what changed.

Only inline styles and SVG: JupyterLab, VS Code and nbconvert show the same page, in light and dark themes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

from nbtoolkit.smoke.check import Check, Verdict
from nbtoolkit.smoke.report.comparison import ReportComparison
from nbtoolkit.smoke.report.plots import plots
from nbtoolkit.smoke.report.text import by_urgency, shows_remedy
from nbtoolkit.utils.display import html_table

_COLOURS: Mapping[Verdict, str] = {
    "fail": "#cf222e",
    "warn": "#9a6700",
    "pass": "#1a7f37",
    "skipped": "#57606a",
    "undecided": "#57606a",
}
"""Backgrounds of the badges: white text on them is legible in every theme."""
_MUTED = "color:var(--jp-ui-font-color2,inherit)"
_LINE = "border-bottom:1px solid rgba(128,128,128,.3)"
_PAGE = (
    "font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;line-height:1.45;max-width:960px;"
    "color:var(--jp-ui-font-color1,inherit)"
)
_HEADING = "font-weight:600;margin:14px 0 4px"


def report_page(
    verdict: Verdict,
    headline: str,
    facts: Mapping[str, str],
    checks: Sequence[Check],
    comparison: ReportComparison | None,
) -> str:
    """Return the page as HTML; everything in it is escaped."""
    urgent = by_urgency(checks)
    open_checks = [one for one in urgent if one.verdict in ("fail", "undecided", "warn")]
    others = [one for one in urgent if one not in open_checks]
    parts = [
        f'<div style="font-size:15px;font-weight:600">{_badge(verdict)}{escape(headline)}</div>',
        *map(_card, open_checks),
        _fold(_counted(others), "".join(map(_card, others))) if others else "",
        _comparison(comparison) if comparison else "",
        "".join(f'<div style="margin:14px 0 4px">{plot}</div>' for plot in plots(checks)),
        _fold("About this report", html_table(facts.items())),
    ]
    return f'<div style="{_PAGE}">{"".join(parts)}</div>'


def _card(one: Check) -> str:
    colour = _COLOURS[one.verdict]
    remedy = (
        f'<div style="margin-top:2px"><b>Next:</b> {escape(one.remedy)}</div>' if shows_remedy(one) else ""
    )
    ran = "" if one.verdict == "skipped" else f" · {one.seconds:.2f} s"
    summary = one.summary.removeprefix("skipped: ")  # the badge says it
    return (
        f'<div style="border-left:3px solid {colour};padding:4px 0 4px 10px;margin:8px 0">'
        f"<div>{_badge(one.verdict)}<b>{escape(one.id)} {escape(one.title)}</b> "
        f'<span style="{_MUTED}">· {escape(one.level)} level{ran}</span></div>'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;margin-top:2px">{escape(summary)}</div>'
        f"{remedy}{_evidence(one)}</div>"
    )


def _evidence(one: Check) -> str:
    if not one.evidence:
        return ""
    text = escape(json.dumps(one.evidence, indent=1, ensure_ascii=False))
    style = (
        "white-space:pre-wrap;overflow-wrap:anywhere;max-height:320px;overflow:auto;margin:2px 0 0;"
        "font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.4"
    )
    return _fold("Evidence", f'<pre style="{style}">{text}</pre>')


def _comparison(comparison: ReportComparison) -> str:
    heading = f'<div style="{_HEADING}">{escape(comparison.heading)}</div>'
    cell = f"text-align:left;padding:2px 16px 2px 0;vertical-align:top;{_LINE}"
    verdicts = "".join(
        f'<tr><td style="{cell}">{escape(one.id)} {escape(one.title)}</td>'
        f'<td style="{cell}">{_badge(one.before)}→ {_badge(one.now)}</td></tr>'
        for one in comparison.verdicts
    )
    figures = "".join(
        f'<tr><td style="{cell}">{escape(one.id)} {escape(one.name)}</td>'
        f'<td style="{cell}">{one.before:.3g} → <b>{one.now:.3g}</b></td></tr>'
        for one in comparison.figures
    )
    rows = f"{verdicts}{figures}"
    return (
        f'{heading}<table style="border-collapse:collapse;margin:0;font-size:inherit">{rows}</table>'
        if rows
        else heading
    )


def _counted(checks: Sequence[Check]) -> str:
    """Return how many checks passed and how many were skipped."""
    skipped = sum(one.verdict == "skipped" for one in checks)
    counts = (("passed", len(checks) - skipped), ("skipped", skipped))
    return ", ".join(f"{count} check{'s' * (count != 1)} {what}" for what, count in counts if count)


def _badge(verdict: Verdict) -> str:
    style = (
        f"display:inline-block;background:{_COLOURS[verdict]};color:#ffffff;border-radius:3px;padding:0 6px;"
        "margin-right:6px;font-size:11px;font-weight:600;line-height:1.5;text-transform:uppercase"
    )
    return f'<span style="{style}">{verdict}</span>'


def _fold(summary: str, body: str) -> str:
    return (
        f'<details style="margin-top:4px"><summary style="cursor:pointer;{_MUTED}">'
        f"{escape(summary)}</summary>{body}</details>"
    )
