"""Which of Azure's codes and messages are known, and what they mean."""

from __future__ import annotations

import re

from nbtoolkit.azure.errors.access_errors import ACCOUNT_CAUSES
from nbtoolkit.azure.errors.resource_errors import RESOURCE_CAUSES

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
"""Codes that only say that something inside of them failed."""

_SHORT_QUOTA = frozenset(
    {
        "maxregionalquotaexceeded",
        "quotaexceeded",
        "maxnumberofregionalenvironmentsinsubexceeded",
        "maxnumberofglobalenvironmentsinsubexceeded",
    }
)


def is_envelope(code: str) -> bool:
    """Tell whether a code says nothing itself, only that something inside failed."""
    return code.lower() in _ENVELOPES


def is_quota(code: str) -> bool:
    """Tell whether a code means that a quota is used up."""
    return code.lower() in _SHORT_QUOTA


def find(code: str, said: str) -> tuple[str, str] | None:
    """Return what a code with Azure's message means and the next step; None where it is not known."""
    for known in (*ACCOUNT_CAUSES, *RESOURCE_CAUSES):
        if known.codes and code.lower() not in known.codes.lower().split():
            continue
        match = re.search(known.message, said, re.IGNORECASE | re.DOTALL)
        if match:
            names = {name: text or "it" for name, text in match.groupdict().items()}
            return known.says.format(**names), known.step.format(**names)
    return None
