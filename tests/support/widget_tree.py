"""Read the texts and states of a tree of ipywidgets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def widgets(root: Any) -> Iterator[Any]:
    """Yield a widget and all widgets below it."""
    yield root
    for child in getattr(root, "children", ()):
        yield from widgets(child)


def visible_text(root: Any) -> str:
    """Return the values and labels of all widgets that are not hidden."""
    if getattr(getattr(root, "layout", None), "display", None) == "none":
        return ""
    text = str(getattr(root, "value", "")) + str(getattr(root, "description", ""))
    return text + "".join(visible_text(child) for child in getattr(root, "children", ()))
