"""What went wrong in Azure, out of the nested errors that it answers with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbtoolkit.azure.errors import catalog as known_causes
from nbtoolkit.azure.resource_id import name_of, type_of

_SAID = 600  # characters of Azure's own words that are shown


@dataclass(frozen=True)
class Cause:
    """One reason for a failure: ``message`` in plain words, ``said`` in Azure's, ``target`` the resource.

    ``known`` tells whether the code is one that the next step was written for.
    """

    code: str
    message: str
    target: str | None
    next_step: str
    said: str = ""
    known: bool = False

    @property
    def resource(self) -> str | None:
        """The resource as type and name, as far as the target says."""
        if not self.target or not name_of(self.target):
            return self.target
        return f"{type_of(self.target)} {name_of(self.target)}"

    def __str__(self) -> str:
        where = f"{self.resource}: " if self.resource else ""
        # Azure's own words help a search and a support request; repeated they only tire
        said = f" (Azure: {self.code}: {self.said})" if self.known and self.said else f" ({self.code})"
        return f"{where}{self.message}{said if self.code else ''}"


def explain(error: Mapping[str, Any] | str | None) -> list[Cause]:
    """Return the innermost reasons in an ARM error, each once, in Azure's order; never none.

    Takes an error, an answer that holds one, a deployment or an operation's status message; errors that
    are JSON text inside of a message are read too. A code that is not known keeps Azure's message.
    """
    start = error if isinstance(error, Mapping) else _parsed(error) or {"message": error}
    found = list(_leaves(_error(start), None))
    telling = [leaf for leaf in found if leaf.said] or found or [_Leaf("", "", None, {})]
    return list(dict.fromkeys(leaf.cause() for leaf in telling))


def prefixed(causes: Sequence[Cause], target: str | None) -> list[Cause]:
    """Return the causes with ``target`` where they name no resource themselves."""
    return [cause if cause.target else replace(cause, target=target) for cause in causes]


@dataclass(frozen=True)
class _Leaf:
    code: str
    said: str
    target: str | None
    info: Mapping[str, Any]

    def cause(self) -> Cause:
        known = known_causes.find(self.code, self.said)
        if known is None:
            message = self.said or "Azure names no reason."
            step = "correct what the message names and run the step again; the portal shows the operation"
            return Cause(self.code, message[:_SAID], self.target, step, self.said[:_SAID])
        message, next_step = known
        for name in self.info.get("policies", ()):
            message += f" The policy is {name!r}."
        return Cause(self.code, message, self.target, next_step, self.said[:_SAID], known=True)


def _leaves(error: Mapping[str, Any], outer: str | None) -> Iterator[_Leaf]:
    code, said = str(error.get("code") or ""), str(error.get("message") or "").strip()
    target = _resource(error.get("target")) or outer
    inner = [*_list(error.get("details")), *_list(error.get("innererror")), *_list(error.get("errorentity"))]
    hidden = _parsed(said)
    if hidden:  # the message is another error, as JSON text
        inner, said = [hidden, *inner], ""
    below = [leaf for part in inner for leaf in _leaves(_error(part), target)]
    below = [leaf for leaf in below if leaf.said and leaf.said != said]
    own = _Leaf(code, said, target, _info(error))
    mine = known_causes.find(code, said) is not None and not known_causes.is_envelope(code)
    if mine and not any(known_causes.find(leaf.code, leaf.said) for leaf in below):
        yield own  # details of a known error say less than it does
    elif below:
        yield from (leaf if leaf.code else replace(leaf, code=code) for leaf in below)
    else:
        yield own


def _error(value: Any) -> Mapping[str, Any]:
    """Return the error in whatever holds it, its keys in lower case."""
    if not isinstance(value, Mapping):
        return {"message": value} if isinstance(value, str) else {}
    lower = {str(key).lower(): part for key, part in value.items()}
    for key in ("error", "properties", "statusmessage"):
        part = lower.get(key)
        if isinstance(part, str):
            part = _parsed(part) or {"message": part}
        if isinstance(part, Mapping) and "code" not in lower:
            return _error(part)
    return lower


def _parsed(text: str | None) -> Mapping[str, Any]:
    """Return the object in a JSON text, an empty one where it is none."""
    if not (text or "").lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, Mapping) else []


def _resource(target: Any) -> str | None:
    text = str(target or "")
    return text if text.startswith("/") else None  # a field's path or "" is no resource


def _info(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what stands beside the message: the names of policies that said no."""
    names: list[str] = []
    for entry in _list(error.get("additionalinfo")):
        if isinstance(entry, Mapping) and entry.get("type") == "PolicyViolation":
            info: Any = entry.get("info") or {}
            name = info.get("policyAssignmentDisplayName") or info.get("policyDefinitionDisplayName")
            if name:
                names.append(str(name))
    return {"policies": tuple(dict.fromkeys(names))}
