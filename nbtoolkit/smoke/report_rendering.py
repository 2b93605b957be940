"""How a smoke report looks, as plain text and as a page in the notebook."""

from __future__ import annotations

import json
from html import escape
from textwrap import wrap

from nbtoolkit.smoke.check import Check
from nbtoolkit.smoke.report import SmokeReport

_WIDTH = 100
_COLOURS = {
    "pass": "#1a7f37",
    "warn": "#9a6700",
    "fail": "#cf222e",
    "skipped": "#6e7781",
    "undecided": "#6e7781",
}


def headline(report: SmokeReport) -> str:
    """Return the report in one sentence."""
    subject = f"adapter {report.adapter} on {report.base}"
    if report.failed:
        names = ", ".join(dict.fromkeys(one.id for one in report.failed))
        return f"Smoke test FAILED ({names}): {subject}"
    if report.open:
        return f"Smoke test not complete ({'; '.join(report.open)}): {subject}"
    warned = ", ".join(dict.fromkeys(one.id for one in report.warned))
    return f"Smoke test green{f' with warnings ({warned})' if warned else ''}: {subject}"


def facts(report: SmokeReport) -> dict[str, str]:
    """Return what the report is about, for display."""
    found = {
        "adapter": f"{report.adapter_sha256[:16]}…" if report.adapter_sha256 else "unreadable",
        "base": f"{report.base_sha256[:16]}…",
        "engine": f"{report.engine}, dtype {report.dtype or 'open'}, quantization {report.quantization}",
        "device": report.device or "the model level did not run",
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(report.versions.items())),
        "report": f"{report.sha256[:16]}… of {report.created:%Y-%m-%d %H:%M:%S} UTC",
    }
    if report.fingerprint:
        found["fingerprint"] = (
            f"{len(report.fingerprint.probes)} contexts, noise {report.fingerprint.noise:.2g} nats"
        )
    return found


def plain(report: SmokeReport) -> str:
    """Return the report as a plain-text table."""
    lines = [headline(report)]
    lines += [f"  {name:<11} {value}" for name, value in facts(report).items()]
    lines.append("")
    for one in report.checks:
        head = f"{one.verdict.upper():<9} {one.id:<3} {one.level:<8} "
        body = wrap(f"{one.title}: {one.summary}", _WIDTH - len(head)) or [one.title]
        lines.append(head + body[0])
        lines += [" " * len(head) + line for line in body[1:]]
        if one.remedy and one.verdict in ("fail", "warn"):
            lines += wrap(
                f"→ {one.remedy}",
                _WIDTH,
                initial_indent=" " * len(head),
                subsequent_indent=" " * (len(head) + 2),
            )
    return "\n".join(lines)


def html(report: SmokeReport) -> str:
    """Return the report as HTML: plain tables and details, inline styles, everything escaped."""
    colour = _COLOURS["fail" if report.failed else "pass" if report.green else "undecided"]
    rows = "".join(_row(one) for one in report.checks)
    about = "".join(
        f'<tr><td style="text-align:left;padding-right:1em">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in facts(report).items()
    )
    return (
        f'<div><p style="color:{colour};font-weight:bold">{escape(headline(report))}</p>'
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
