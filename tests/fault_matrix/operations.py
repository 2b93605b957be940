"""The operation of a request to Azure without resource names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from tests.azure_double.http import Request

_NAME = "{}"
_PLANES = {
    "management.azure.com": "arm",
    "login.microsoftonline.com": "login",
    "prices.azure.com": "prices",
}
_SUFFIXES = {
    ".file.core.windows.net": "files",
    ".azurecontainerapps.dev": "streams",
    ".azurecontainerapps.io": "app",
}


@dataclass(frozen=True, order=True)
class Operation:
    """A kind of request: plane, method and subject."""

    plane: str
    method: str
    subject: str

    def __str__(self) -> str:
        return f"{self.plane}: {self.method} {self.subject}"


def of_request(request: Request) -> Operation:
    """Return the operation of a request to the double."""
    return operation(request.method, request.host, request.path, request.query)


def operation(method: str, host: str, path: str, query: Mapping[str, str]) -> Operation:
    """Return the operation of a request with these parts."""
    plane = _PLANES.get(host) or next(
        (name for suffix, name in _SUFFIXES.items() if host.endswith(suffix)), host
    )
    parts = [part for part in unquote(path).split("/") if part]
    if plane == "arm":
        return Operation(plane, method, _arm_subject(parts))
    if plane == "files":
        return Operation(plane, method, _file_subject(parts, query))
    if plane == "streams":
        return Operation(plane, method, parts[-1])
    if plane == "login":
        return Operation(plane, method, "/".join([_NAME, *parts[1:]]))
    return Operation(plane, method, "/".join(parts))


def _arm_subject(parts: list[str]) -> str:
    """Return the types and actions of an id; names become {}."""
    shown: list[str] = []
    is_name = False
    i = 0
    while i < len(parts):
        if not is_name and parts[i].lower() == "providers":
            shown += ["providers", *parts[i + 1 : i + 2]]
            i += 2
            continue
        shown.append(_NAME if is_name else parts[i].lower())
        is_name = not is_name
        i += 1
    return "/".join(shown).replace("subscriptions/{}", "", 1).strip("/") or "subscription"


def _file_subject(parts: list[str], query: Mapping[str, str]) -> str:
    """Return the part of the share, file or folder, and the ``comp`` of the query."""
    below = parts[1:]
    part = below[1] if len(below) > 1 else "root"
    if query.get("restype") == "directory":
        kind = "folder"
    else:
        kind = "unfinished file" if below and below[-1].endswith(".part") else "file"
    return " ".join(["/".join([part, kind]), *([query["comp"]] if "comp" in query else [])])
