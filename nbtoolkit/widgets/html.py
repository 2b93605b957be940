"""HTML that forms show; everything that comes from outside is escaped here."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from html import escape

from nbtoolkit.errors import NbtoolkitError

# JupyterLab's own colours, so that light and dark themes both read well; the fallbacks are for others.
TEXT = "color:var(--jp-ui-font-color1,inherit)"
MUTED = "color:var(--jp-ui-font-color2,#757575)"
_RED = "var(--jp-error-color1,#c62828)"
_AMBER = "var(--jp-warn-color1,#c66900)"
_GREEN = "var(--jp-success-color1,#2e7d32)"
_LINE = "var(--jp-border-color2,#cccccc)"
FONT = (
    "font-family:var(--jp-ui-font-family,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.45"
)
_MONO = "font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.45"

_WRAP = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"


def heading(title: str) -> str:
    """Return a form's title."""
    return f'<div style="{FONT};{TEXT};font-size:16px;font-weight:600;margin:2px 0 4px">{escape(title)}</div>'


def help_line(text: str) -> str:
    """Return a field's help."""
    return f'<div style="{FONT};{MUTED};font-size:12px;line-height:1.35">{escape(text)}</div>' if text else ""


def problem_line(text: str) -> str:
    """Return what is wrong with a field."""
    return (
        f'<div role="alert" style="{FONT};color:{_RED};font-size:12px;line-height:1.35">{escape(text)}</div>'
    )


def muted(text: str) -> str:
    """Return a line that stands back."""
    return f'<div style="{FONT};{MUTED}">{escape(text)}</div>' if text else ""


def plain(text: str) -> str:
    """Return a line of normal text."""
    return f'<div style="{FONT};{TEXT};white-space:pre-wrap">{escape(text)}</div>'


def _card(colour: str, title: str, body: str) -> str:
    return (
        f'<div style="{FONT};{TEXT};border-left:3px solid {colour};padding:4px 0 4px 12px;margin:6px 0;'
        f'max-width:960px"><div style="font-weight:600">{escape(title)}</div>{body}</div>'
    )


def blockers(sentences: Sequence[str]) -> str:
    """Return what is missing before the step can run, nothing where nothing is."""
    if not sentences:
        return ""
    items = "".join(
        f'<li style="white-space:pre-line;overflow-wrap:anywhere">{escape(sentence)}</li>'
        for sentence in sentences
    )
    return _card(_AMBER, "Before this can run", f'<ul style="margin:2px 0 0;padding-left:18px">{items}</ul>')


def failure(error: BaseException) -> str:
    """Return an error as its cause and the next step; the traceback of an unforeseen one is folded."""
    if isinstance(error, NbtoolkitError):
        body = (
            f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(error.message)}</div>'
            f'<div style="margin-top:4px"><b>Next:</b> {escape(error.next_step)}</div>'
        )
        return _card(_RED, type(error).__name__, body)
    trace = "".join(traceback.format_exception(error))
    body = (
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(str(error))}</div>'
        f'<details style="margin-top:4px"><summary>Traceback</summary>'
        f'<pre style="{_MONO};{TEXT};white-space:pre-wrap">{escape(trace)}</pre></details>'
    )
    return _card(_RED, type(error).__name__, body)


def notice(title: str, text: str) -> str:
    """Return something to know that is no error."""
    return _card(_LINE, title, f'<div style="white-space:pre-wrap">{escape(text)}</div>')


def success(title: str, shown: str) -> str:
    """Return a result; ``shown`` is HTML, from :func:`represent`."""
    return _card(_GREEN, title, shown)


def bad(title: str, shown: str) -> str:
    """Return a result that is no success; ``shown`` is HTML, from :func:`represent`."""
    return _card(_RED, title, shown)


def represent(value: object) -> str:
    """Return a value's own HTML, or its text escaped."""
    own = getattr(value, "_repr_html_", None)
    found = own() if callable(own) else None
    if isinstance(found, str):
        return found
    return f'<pre style="{_MONO};{TEXT};{_WRAP};margin:4px 0">{escape(str(value))}</pre>'


def log_lines(lines: Iterable[str]) -> str:
    """Return the last lines of a run in a folded block."""
    text = "\n".join(lines)
    if not text:
        return ""
    return (
        f'<details style="{FONT};{MUTED}"><summary style="cursor:pointer">Log</summary>'
        f'<pre style="{_MONO};{MUTED};{_WRAP};margin:2px 0 0;max-height:220px;overflow:auto">'
        f"{escape(text)}</pre></details>"
    )


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return name and value pairs as a plain table."""
    cells = "".join(
        f'<tr><td style="text-align:left;padding:1px 16px 1px 0;vertical-align:top;{MUTED}">'
        f"{escape(name)}</td>"
        f'<td style="text-align:left;padding:1px 0;white-space:pre-wrap">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table style="{FONT};{TEXT};border-collapse:collapse;margin:2px 0">{cells}</table>'
