"""Find the innermost causes in the nested errors of Azure Resource Manager."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbtoolkit.azure.errors import catalog
from nbtoolkit.azure.errors.resource_errors import RESOURCE_ERRORS
from nbtoolkit.azure.resource_id import name_of, type_of

_MAX_MESSAGE = 600
"""Characters of Azure's own message that are kept."""


@dataclass(frozen=True)
class Cause:
    """A cause of a failure: ``message`` in plain words, ``azure_message`` in Azure's, ``target`` a resource.

    ``known`` tells whether the catalogue has an entry for this error.
    """

    code: str
    message: str
    target: str | None
    next_step: str
    azure_message: str = ""
    known: bool = False

    @property
    def resource(self) -> str | None:
        """The target as type and name if it is a resource id, else the target itself."""
        if not self.target or not name_of(self.target):
            return self.target
        return f"{type_of(self.target)} {name_of(self.target)}"

    def __str__(self) -> str:
        subject = f"{self.resource}: " if self.resource else ""
        if not self.code:
            return f"{subject}{self.message}"
        # Azure's own message helps a web search and a support request; an unknown error already shows it
        original = (
            f"Azure: {self.code}: {self.azure_message}" if self.known and self.azure_message else self.code
        )
        return f"{subject}{self.message} ({original})"


def explain(error: Mapping[str, Any] | str | None) -> list[Cause]:
    """Return the innermost causes in an ARM error, each once, in Azure's order; at least one.

    Takes an error, a response that holds one, a deployment or an operation's status message. Reads errors
    that are JSON text inside of a message. The message of an unknown code is Azure's own.
    """
    start = error if isinstance(error, Mapping) else _parse(error) or {"message": error}
    leaves = list(_leaves(_unwrap(start), None))
    informative = [leaf for leaf in leaves if leaf.message] or leaves or [_Leaf("", "", None, ())]
    return list(dict.fromkeys(leaf.cause() for leaf in informative))


def with_target(causes: Sequence[Cause], target: str | None) -> list[Cause]:
    """Return the causes with ``target`` set on each that has none."""
    return [cause if cause.target else replace(cause, target=target) for cause in causes]


@dataclass(frozen=True)
class _Leaf:
    code: str
    message: str
    target: str | None
    policies: tuple[str, ...]

    def cause(self) -> Cause:
        azure_message = self.message[:_MAX_MESSAGE]
        explanation = _find(self.code, self.message)
        if explanation is None:
            message = azure_message or "Azure names no reason."
            step = "correct what the message names and run the step again; the portal shows the operation"
            return Cause(self.code, message, self.target, step, azure_message)
        message, step = explanation
        message += "".join(f" The policy is {name!r}." for name in self.policies)
        return Cause(self.code, message, self.target, step, azure_message, known=True)


def _find(code: str, message: str) -> tuple[str, str] | None:
    return catalog.find((*catalog.ACCESS_ERRORS, *RESOURCE_ERRORS), code, message)


def _leaves(error: Mapping[str, Any], outer_target: str | None) -> Iterator[_Leaf]:
    code, message = str(error.get("code") or ""), str(error.get("message") or "").strip()
    named = str(error.get("target") or "")
    target = named if named.startswith("/") else outer_target  # the path of a field is not a resource
    inner = [part for key in ("details", "innererror", "errorentity") for part in _as_list(error.get(key))]
    embedded = _parse(message)
    if embedded:  # the message is another error, as JSON text
        inner, message = [embedded, *inner], ""
    below = [leaf for part in inner for leaf in _leaves(_unwrap(part), target)]
    below = [leaf for leaf in below if leaf.message and leaf.message != message]
    leaf = _Leaf(code, message, target, _policies(error))
    known = _find(code, message) is not None and not catalog.is_envelope(code)
    if known and not any(_find(one.code, one.message) for one in below):
        yield leaf  # the details of a known error add nothing to it
    elif below:
        yield from (one if one.code else replace(one, code=code) for one in below)
    else:
        yield leaf


def _unwrap(value: Any) -> Mapping[str, Any]:
    """Return the error inside of a response, deployment or status message, its keys in lower case."""
    if not isinstance(value, Mapping):
        return {"message": value} if isinstance(value, str) else {}
    lower = {str(key).lower(): part for key, part in value.items()}
    for key in ("error", "properties", "statusmessage"):
        part = lower.get(key)
        if isinstance(part, str):
            part = _parse(part) or {"message": part}
        if isinstance(part, Mapping) and "code" not in lower:
            return _unwrap(part)
    return lower


def _parse(text: str | None) -> Mapping[str, Any]:
    """Return the object in a JSON text, an empty one if the text is not a JSON object."""
    if not (text or "").lstrip().startswith("{"):
        return {}
    try:
        parsed = json.loads(text or "")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, Mapping) else []


def _policies(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the policies that refused the request, out of the additional info."""
    names: list[str] = []
    for entry in _as_list(error.get("additionalinfo")):
        if isinstance(entry, Mapping) and entry.get("type") == "PolicyViolation":
            info: Any = entry.get("info") or {}
            name = info.get("policyAssignmentDisplayName") or info.get("policyDefinitionDisplayName")
            if name:
                names.append(str(name))
    return tuple(dict.fromkeys(names))
