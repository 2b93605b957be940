"""HTML fragments of the forms; all text from outside is escaped here."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from html import escape

from nbtoolkit.errors import NbtoolkitError
from nbtoolkit.inference.conversation import ModelAnswer, Turn

# JupyterLab's theme variables, with fallbacks for other frontends.
TEXT_STYLE = "color:var(--jp-ui-font-color1,inherit)"
MUTED_STYLE = "color:var(--jp-ui-font-color2,#757575)"
FONT_STYLE = (
    "font-family:var(--jp-ui-font-family,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.45"
)
_RED = "var(--jp-error-color1,#c62828)"
_AMBER = "var(--jp-warn-color1,#c66900)"
_GREEN = "var(--jp-success-color1,#2e7d32)"
_MONOSPACE = "font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.45"
_WRAP = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"
_BUBBLE = (
    "background:var(--jp-layout-color2,#eeeeee);border-radius:6px;padding:6px 12px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;max-width:80%"
)


def heading(title: str) -> str:
    """Return the title of a form."""
    style = f"{FONT_STYLE};{TEXT_STYLE};font-size:16px;font-weight:600;margin:2px 0 4px"
    return f'<div style="{style}">{escape(title)}</div>'


def help_line(text: str) -> str:
    """Return the help text of a field."""
    if not text:
        return ""
    return f'<div style="{FONT_STYLE};{MUTED_STYLE};font-size:12px;line-height:1.35">{escape(text)}</div>'


def problem_line(text: str) -> str:
    """Return the error message of a field."""
    style = f"{FONT_STYLE};color:{_RED};font-size:12px;line-height:1.35"
    return f'<div role="alert" style="{style}">{escape(text)}</div>'


def muted_line(text: str) -> str:
    """Return a line in the muted text colour."""
    return f'<div style="{FONT_STYLE};{MUTED_STYLE}">{escape(text)}</div>' if text else ""


def text_line(text: str) -> str:
    """Return a line in the normal text colour."""
    return f'<div style="{FONT_STYLE};{TEXT_STYLE};white-space:pre-wrap">{escape(text)}</div>'


def _card(colour: str, title: str, body: str) -> str:
    style = f"{FONT_STYLE};{TEXT_STYLE};border-left:3px solid {colour};padding:4px 0 4px 12px;margin:6px 0"
    return (
        f'<div style="{style};max-width:960px"><div style="font-weight:600">{escape(title)}</div>{body}</div>'
    )


def blocker_card(blockers: Sequence[str]) -> str:
    """Return the list of blockers; an empty text if there are none."""
    if not blockers:
        return ""
    items = "".join(
        f'<li style="white-space:pre-line;overflow-wrap:anywhere">{escape(blocker)}</li>'
        for blocker in blockers
    )
    return _card(_AMBER, "Before this can run", f'<ul style="margin:2px 0 0;padding-left:18px">{items}</ul>')


def error_card(error: BaseException) -> str:
    """Return an error with its cause and next step; an unexpected error has a folded traceback instead."""
    if isinstance(error, NbtoolkitError):
        message = error.message
        details = f'<div style="margin-top:4px"><b>Next:</b> {escape(error.next_step)}</div>'
    else:
        message = str(error)
        trace = escape("".join(traceback.format_exception(error)))
        details = (
            '<details style="margin-top:4px"><summary>Traceback</summary>'
            f'<pre style="{_MONOSPACE};{TEXT_STYLE};white-space:pre-wrap">{trace}</pre></details>'
        )
    body = f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(message)}</div>{details}'
    return _card(_RED, type(error).__name__, body)


def result_card(title: str, body: str, *, success: bool) -> str:
    """Return the result of a run that ended; ``body`` is HTML, from :func:`html_of`."""
    return _card(_GREEN if success else _RED, title, body)


def html_of(value: object) -> str:
    """Return the value's ``_repr_html_()``, or its escaped text."""
    render = getattr(value, "_repr_html_", None)
    rendered = render() if callable(render) else None
    if isinstance(rendered, str):
        return rendered
    return f'<pre style="{_MONOSPACE};{TEXT_STYLE};{_WRAP};margin:4px 0">{escape(str(value))}</pre>'


def log_block(lines: Iterable[str]) -> str:
    """Return the last lines of a run in a folded block."""
    text = "\n".join(lines)
    if not text:
        return ""
    style = f"{_MONOSPACE};{MUTED_STYLE};{_WRAP};margin:2px 0 0;max-height:220px;overflow:auto"
    return (
        f'<details style="{FONT_STYLE};{MUTED_STYLE}"><summary style="cursor:pointer">Log</summary>'
        f'<pre style="{style}">{escape(text)}</pre></details>'
    )


def transcript(turns: Iterable[Turn]) -> str:
    """Return the turns of a chat, oldest first; the answers of one turn are columns."""
    return "".join(_turn(turn) for turn in turns)


def _turn(turn: Turn) -> str:
    columns = "".join(_answer(model, answer) for model, answer in turn.answers.items())
    return (
        f'<div style="{FONT_STYLE};{TEXT_STYLE};margin:10px 0">'
        '<div style="display:flex;justify-content:flex-end">'
        f'<div style="{_BUBBLE}">{escape(turn.prompt)}</div></div>'
        f'<div style="display:flex;gap:24px;margin-top:6px">{columns}</div></div>'
    )


def _answer(model: str, answer: ModelAnswer) -> str:
    state = {
        "waiting": "waiting…",
        "answering": f"answering… {answer.seconds:.0f} s",
        "done": f"{answer.seconds:.1f} s",
        "stopped": "stopped",
        "failed": "failed",
    }[answer.state]
    error = error_card(answer.error) if answer.error is not None else ""
    return (
        '<div style="flex:1 1 0;min-width:0">'
        f'<div style="{MUTED_STYLE};font-size:12px"><b>{escape(model)}</b> · {state}</div>'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(answer.text)}</div>{error}</div>'
    )
