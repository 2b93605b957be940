"""HTML of a conversation; prompts, names and answers are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nbtoolkit.inference.conversation import ModelAnswer, Turn
from nbtoolkit.widgets import html as page

_BUBBLE = (
    "background:var(--jp-layout-color2,#eeeeee);border-radius:6px;padding:6px 12px;white-space:pre-wrap;"
    "overflow-wrap:anywhere;max-width:80%"
)


def transcript(turns: Sequence[Turn]) -> str:
    """Return all turns, oldest first; answers of one turn stand side by side."""
    return "".join(_turn(turn) for turn in turns)


def _turn(turn: Turn) -> str:
    columns = "".join(_answer(model, answer) for model, answer in turn.answers.items())
    return (
        f'<div style="{page.FONT};{page.TEXT};margin:10px 0">'
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
    failure = page.failure(answer.error) if answer.error is not None else ""
    return (
        '<div style="flex:1 1 0;min-width:0">'
        f'<div style="{page.MUTED};font-size:12px"><b>{escape(model)}</b> · {state}</div>'
        f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(answer.text)}</div>{failure}</div>'
    )
