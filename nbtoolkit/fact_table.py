"""A value's facts as a plain HTML table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def fact_table(caption: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return a captioned table of name and text, both escaped."""
    cell = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {cell}>{escape(name)}</th><td {cell}>{escape(text)}</td></tr>" for name, text in facts
    )
    return f"<table><caption>{escape(caption)}</caption>{rows}</table>"
