"""Compare a response with a recorded one: the same keys, types of values, and Azure's constants."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

from .exchanges import Exchange, as_json

ASYNC = ("azure-asyncoperation", "location")
"""Present in both responses or in none: they control how the client waits."""

WANTED = (
    "retry-after", "etag", "last-modified", "content-md5", "content-range", "accept-ranges",
    "x-ms-async-operation-timeout", "x-ms-deployment-engine-version", "x-ms-failure-cause",
)  # fmt: skip
"""Present if recorded (one recorder drops retry-after); also all `x-ms-*` of Azure Files."""

SAME = {
    "activeRevisionsMode", "createdByType", "keyName", "mode", "permissions",
    "propertyChangeType", "registrationPolicy", "registrationState", "status", "type",
}  # fmt: skip
"""Keys whose values must be equal, not only of the same type."""


def differences(recorded: Exchange, answered: Exchange) -> list[str]:
    """Return the differences in form from the recorded response; each starts with its position."""
    found = []
    if recorded.status != answered.status:
        found.append(
            f"status: recorded {recorded.status}, answered {answered.status} {answered.body[:300]!r}"
        )
    return [*found, *_headers(recorded, answered), *_bodies(recorded, answered)]


def _headers(recorded: Exchange, answered: Exchange) -> Iterator[str]:
    for name in ASYNC:
        if (name in recorded.headers) != (name in answered.headers):
            yield f"header {name}: only {'recorded' if name in recorded.headers else 'answered'}"
    files = "x-ms-version" in recorded.headers
    for name in recorded.headers:
        if (name in WANTED or (files and name.startswith("x-ms-"))) and name not in answered.headers:
            yield f"header {name}: only recorded"
    there, here = (one.headers.get("content-type", "").split(";")[0] for one in (recorded, answered))
    if recorded.body and there.lower() != here.lower():
        yield f"header content-type: recorded {there!r}, answered {here!r}"
    code, answer = (one.headers.get("x-ms-error-code") for one in (recorded, answered))
    if code != answer:
        yield f"header x-ms-error-code: recorded {code}, answered {answer}"


def _bodies(recorded: Exchange, answered: Exchange) -> Iterator[str]:
    if bool(recorded.body) != bool(answered.body):
        yield f"body: only {'recorded' if recorded.body else 'answered'}"
        return
    there = as_json(recorded.body)
    if isinstance(there, dict | list):
        here = as_json(answered.body)
        yield from json_differences(there, here, "body")
    elif recorded.body.lstrip(b"\xef\xbb\xbf").startswith(b"<?xml"):
        if not answered.body.startswith(b"\xef\xbb\xbf<?xml"):
            yield "body: not XML behind a byte order mark"
        else:
            yield from _elements(_xml(recorded.body), _xml(answered.body), "body")
    elif recorded.headers.get("server") == "Microsoft-IIS/10.0" and recorded.body.startswith(b"{"):
        records = [
            [json.loads(line) for line in one.body.splitlines() if line] for one in (recorded, answered)
        ]
        yield from json_differences(records[0], records[1], "records")


def json_differences(recorded: Any, answered: Any, at: str) -> Iterator[str]:
    """Yield the positions where a value misses a recorded key or has another type.

    A key recorded as null must exist and may have a value. Every entry of a list must match one of the
    recorded entries.
    """
    if recorded is None:
        return
    if type_name(recorded) != type_name(answered):
        yield f"{at}: recorded {type_name(recorded)}, answered {type_name(answered)}"
    elif isinstance(recorded, dict):
        for name, value in recorded.items():
            if name not in answered:
                yield f"{at}.{name}: only recorded"
            elif name in SAME and isinstance(value, str) and value != answered[name]:
                yield f"{at}.{name}: recorded {value!r}, answered {answered[name]!r}"
            else:
                yield from json_differences(value, answered[name], f"{at}.{name}")
    elif isinstance(recorded, list) and recorded:
        if not answered:
            yield f"{at}[]: empty, recorded with entries"
        for entry in answered:
            yield from min((list(json_differences(one, entry, f"{at}[]")) for one in recorded), key=len)


def type_name(value: Any) -> str:
    """Return the name of a JSON type."""
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "list", str: "text", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def _xml(body: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(body.decode("utf-8-sig"))


def _elements(recorded: ElementTree.Element, answered: ElementTree.Element, at: str) -> Iterator[str]:
    place = f"{at}.{recorded.tag}"
    if recorded.tag != answered.tag:
        yield f"{place}: answered {answered.tag}"
        return
    for name in recorded.attrib:
        if name not in answered.attrib:
            yield f"{place}@{name}: only recorded"
    there, here = _grouped(recorded), _grouped(answered)
    for tag, entries in there.items():
        if tag not in here:
            yield f"{place}.{tag}: only recorded"
        for entry in here.get(tag, []):
            yield from min((list(_elements(one, entry, place)) for one in entries), key=len)


def _grouped(element: ElementTree.Element) -> dict[str, list[ElementTree.Element]]:
    found: dict[str, list[ElementTree.Element]] = {}
    for child in element:
        found.setdefault(child.tag, []).append(child)
    return found
