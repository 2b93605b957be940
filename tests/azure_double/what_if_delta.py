"""The differences between two bodies in the format of what-if."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MISSING: Any = object()


def delta(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Return the property changes from one body to another; arrays are compared place by place."""
    found: list[dict[str, Any]] = []
    for name in sorted({*before, *after}):
        found += _property(
            f"{path}.{name}" if path else name, before.get(name, _MISSING), after.get(name, _MISSING)
        )
    return found


def _property(path: str, before: Any, after: Any) -> list[dict[str, Any]]:
    if before == after:
        return []
    if before is _MISSING:
        return [{"path": path, "propertyChangeType": "Create", "after": after}]
    if after is _MISSING:
        return [{"path": path, "propertyChangeType": "Delete", "before": before}]
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return delta(before, after, path)
    if isinstance(before, list) and isinstance(after, list):
        return [{"path": path, "propertyChangeType": "Array", "children": _items(before, after)}]
    return [{"path": path, "propertyChangeType": "Modify", "before": before, "after": after}]


def _items(before: list[Any], after: list[Any]) -> list[dict[str, Any]]:
    children: list[dict[str, Any]] = []
    for index in range(max(len(before), len(after))):
        old = before[index] if index < len(before) else _MISSING
        new = after[index] if index < len(after) else _MISSING
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = delta(old, new)
            if inner:
                children.append({"path": str(index), "propertyChangeType": "Modify", "children": inner})
        else:
            children += _property(str(index), old, new)
    return children
