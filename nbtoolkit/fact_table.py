"""A value's facts as a plain HTML table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def fact_table(caption: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return a table of name and text, both escaped, under a caption where there is one."""
    cell = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {cell}>{escape(name)}</th><td {cell}>{escape(text)}</td></tr>" for name, text in facts
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{rows}</table>"
