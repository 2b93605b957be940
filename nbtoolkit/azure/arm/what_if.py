"""What a deployment would change, as Azure predicts it, with what is known to be noise folded away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from nbtoolkit.azure.arm.what_if_filter import is_noise
from nbtoolkit.azure.resource_id import DEPLOYMENT, kind_of, title_of

_VERBS = {
    "Create": "create",
    "Modify": "change",
    "Delete": "delete",
    "Deploy": "change",
    "NoChange": "keep",
    "NoEffect": "keep",
    "Ignore": "keep",
    "Unsupported": "unknown",
}


@dataclass(frozen=True)
class Difference:
    """One property of a resource before and after, as short text."""

    path: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}: {self.before} → {self.after}"


@dataclass(frozen=True)
class Change:
    """What happens to one resource: ``verb`` is create, change, delete, keep or unknown."""

    id: str
    verb: str
    differences: tuple[Difference, ...] = ()

    @property
    def title(self) -> str:
        """The resource as kind and name."""
        return title_of(self.id)


@dataclass(frozen=True)
class WhatIf:
    """A table of what would be created, changed and kept; ``folded`` counts differences that are noise."""

    changes: tuple[Change, ...] = ()
    folded: int = 0

    @classmethod
    def of(cls, changes: Sequence[Mapping[str, Any]]) -> WhatIf:
        """Read Azure's list of changes."""
        found: list[Change] = []
        folded = 0
        for one in changes:
            resource = str(one.get("resourceId") or "")
            verb = _VERBS.get(str(one.get("changeType")), "unknown")
            if kind_of(resource) == DEPLOYMENT or one.get("changeType") == "Ignore":
                continue  # a module is no resource; what the template does not name is none of its business
            every = list(_differences(one.get("delta") or (), ""))
            real = tuple(diff for diff, raw in every if not is_noise(resource, diff.path, *raw))
            folded += len(every) - len(real)
            keeps = verb == "change" and not real
            found.append(Change(resource, "keep" if keeps else verb, real))
        return cls(tuple(sorted(found, key=lambda change: _ORDER.index(change.verb))), folded)

    @property
    def quiet(self) -> bool:
        """Tell whether nothing would be created, changed or deleted."""
        return all(change.verb == "keep" for change in self.changes)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return verb, resource and differences."""
        return [
            (change.verb, change.title, "\n".join(map(str, change.differences))) for change in self.changes
        ]

    @property
    def note(self) -> str:
        """The number of differences that were folded away, as a sentence; "" where none was."""
        if not self.folded:
            return ""
        return f"{self.folded} more differences are ones that Azure always reports and never makes."

    def __str__(self) -> str:
        rows = self.rows()
        width = max((len(title) for _, title, _ in rows), default=0)
        lines = [f"{verb:<7} {title:<{width}}".rstrip() + _indented(more) for verb, title, more in rows]
        return "\n".join([*(lines or ["nothing would change"]), *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """Return the table as HTML, escaped."""
        cell = '<td style="text-align:left;vertical-align:top;padding:2px 8px;white-space:pre-wrap">'
        rows = "".join(
            f"<tr>{''.join(f'{cell}{escape(text)}</td>' for text in row)}</tr>" for row in self.rows()
        )
        note = f"<div>{escape(self.note)}</div>" if self.note else ""
        return f'<table style="border-collapse:collapse">{rows}</table>{note}'


_ORDER = ("delete", "create", "change", "unknown", "keep")


def _indented(more: str) -> str:
    return "".join(f"\n          {line}" for line in more.splitlines())


def _differences(
    delta: Sequence[Mapping[str, Any]], path: str
) -> Iterator[tuple[Difference, tuple[str, Any, Any]]]:
    """Yield each difference, and how it changes with the values themselves."""
    for one in delta:
        here = f"{path}.{one.get('path')}" if path else str(one.get("path"))
        children = one.get("children")
        if children:
            yield from _differences(children, here)
            continue
        kind, before, after = str(one.get("propertyChangeType")), one.get("before"), one.get("after")
        yield Difference(here, _shown(here, before), _shown(here, after)), (kind, before, after)


def _shown(path: str, value: Any) -> str:
    if value is None:
        return "–"
    if ".secrets." in path or path.endswith(("Key", ".secrets")):
        return "(hidden)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
