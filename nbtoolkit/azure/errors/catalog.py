"""The catalogue of known Azure errors: its entries, and the lookup by code and message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_ENVELOPES = frozenset(
    {
        "deploymentfailed",
        "resourcedeploymentfailure",
        "invalidtemplatedeployment",
        "validationforresourcefailed",
        "validationformultipleresourcesfailed",
        "multipleerrorsoccurred",
        "deploymentoperationfailed",
        "conflict",
        "badrequest",
        "notfound",
    }
)
"""Codes that only report that an error inside of them is the reason."""

_QUOTA_EXCEEDED = frozenset(
    {
        "maxregionalquotaexceeded",
        "quotaexceeded",
        "maxnumberofregionalenvironmentsinsubexceeded",
        "maxnumberofglobalenvironmentsinsubexceeded",
    }
)


class Explanation(NamedTuple):
    """What an error means, and what the user can do."""

    message: str
    next_step: str


@dataclass(frozen=True)
class CatalogEntry:
    """An error of Azure, matched by its code and message, with its explanation.

    Without ``codes`` every code matches, without ``pattern`` every message. The named groups of ``pattern``
    may be used as ``{name}`` in ``message`` and ``next_step``; a group without a match becomes "it".
    """

    message: str
    next_step: str
    codes: tuple[str, ...] = ()
    pattern: str = ""

    def match(self, code: str, azure_message: str) -> Explanation | None:
        """Return the explanation if code and message match, else None."""
        if self.codes and code.lower() not in map(str.lower, self.codes):
            return None
        found = re.search(self.pattern, azure_message, re.IGNORECASE | re.DOTALL)
        if found is None:
            return None
        groups = {name: text or "it" for name, text in found.groupdict().items()}
        return Explanation(self.message.format(**groups), self.next_step.format(**groups))


def find(entries: Iterable[CatalogEntry], code: str, azure_message: str) -> Explanation | None:
    """Return the explanation of the first entry that matches, None if the error is not known."""
    matches = (entry.match(code, azure_message) for entry in entries)
    return next((explanation for explanation in matches if explanation), None)


def is_envelope(code: str) -> bool:
    """Tell whether a code only reports that an error inside of it is the reason."""
    return code.lower() in _ENVELOPES


def is_quota_exceeded(code: str) -> bool:
    """Tell whether a code means that a quota is used up."""
    return code.lower() in _QUOTA_EXCEEDED
