"""Show facts as tables and lists in HTML and plain text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from html import escape

LINK = "color:var(--jp-content-link-color,#0b57d0);text-decoration:underline"
"""Style of a link: inside of widgets the style of the page does not apply."""
_NEW_TAB = 'target="_blank" rel="noopener"'
_MAX_URL = 100


class FactTable(ABC):
    """Print the rows of a value as a table: plain text, and HTML in a notebook.

    A dataclass that inherits from it needs ``repr=False``.
    """

    @abstractmethod
    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each fact."""

    def __str__(self) -> str:
        return text_table(self.rows())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(self.rows())


def html_table(facts: Iterable[tuple[str, str]], caption: str = "") -> str:
    """Return a table of labels and texts, escaped; URLs become links."""
    cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px'
    rows = "".join(
        f'<tr>{cell};font-weight:bold;white-space:nowrap">{escape(label)}</td>'
        f'{cell};white-space:pre-wrap">{_linked(text)}</td></tr>'
        for label, text in facts
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<table style="border-collapse:collapse;margin:0;line-height:1.45">{above}{rows}</table>'


def text_table(facts: Iterable[tuple[str, str]]) -> str:
    """Return a line for each fact, the texts below each other; those of several lines are indented."""
    rows = list(facts)
    width = max((len(label) for label, _ in rows), default=0)
    indent = "\n" + " " * (width + 2)
    return "\n".join(f"{label:<{width}}  {text.replace(chr(10), indent)}" for label, text in rows)


def text_list(heading: str, items: Iterable[str]) -> list[str]:
    """Return the lines of an indented list under ``heading``; no line if there are no items."""
    lines = [f"  - {item}" for item in items]
    return [*([f"{heading}:"] if heading else []), *lines] if lines else []


def html_list(heading: str, items: Iterable[str]) -> str:
    """Return a list under ``heading``, escaped; an empty string if there are no items."""
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<div>{escape(heading)}<ul style='margin:0'>{lines}</ul></div>" if lines else ""


def _linked(text: str) -> str:
    safe = escape(text, quote=True)
    if text.startswith(("http://", "https://")) and not any(c.isspace() for c in text):
        return f'<a href="{safe}" title="{safe}" style="{LINK}" {_NEW_TAB}>{escape(_short(text))}</a>'
    return safe


def _short(url: str) -> str:
    """Return a URL as text; of a long one the host and the last part."""
    if len(url) <= _MAX_URL:
        return url
    host, _, path = url.partition("://")[2].partition("/")
    return f"{host} … {path.rstrip('/').rpartition('/')[2]}"
