"""The operation of a request without resource names: the unit in which fidelity is counted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from .exchanges import Exchange

ARM = "management.azure.com"
FILES = ".file.core.windows.net"
APPS = ".azurecontainerapps.io"
STREAMS = ".azurecontainerapps.dev"
LOGIN = "login.microsoftonline.com"

_CODE = re.compile(rb"<Code>(\w+)</Code>")


@dataclass(frozen=True, order=True)
class ExchangeKind:
    """An operation and how it ended."""

    operation: str
    status: int
    code: str = ""
    """The error code of the body or of a header."""

    def __str__(self) -> str:
        return f"{self.operation} → {self.status} {self.code}".rstrip()


def exchange_kind(exchange: Exchange) -> ExchangeKind:
    """Return the kind of an exchange."""
    return ExchangeKind(
        operation_name(exchange), exchange.status, error_code(exchange) if exchange.status >= 400 else ""
    )


def operation_name(exchange: Exchange) -> str:
    """Return the name of an operation: method, resource type or path without names, and part of the query."""
    host, method = exchange.host.lower().split(":")[0], exchange.method
    if host == ARM:
        named = arm_path(exchange.path)
        return f"{method} {named.removesuffix(' (list)') if method == 'POST' else named}"
    if host.endswith(FILES):
        return f"{method} {_file(exchange)}"
    if host.endswith(STREAMS):
        return f"{method} stream {_stream(exchange.path)}"
    if host.endswith(APPS):
        scheme = "http app" if exchange.url.startswith("http:") else "app"
        return f"{method} {scheme}"
    if host == LOGIN:
        return f"{method} login {'/'.join(exchange.path.split('/')[2:])}"
    return f"{method} {host}"


def error_code(exchange: Exchange) -> str:
    """Return the error code of a header or the body, "" for none."""
    named = exchange.headers.get("x-ms-error-code", "")
    if named:
        return named
    found = _CODE.search(exchange.body)
    if found:
        return found[1].decode()
    error = exchange.json.get("error") if isinstance(exchange.json, dict) else None
    return str(error.get("code", "")) if isinstance(error, dict) else ""


def arm_path(path: str) -> str:
    """Return the types of an ARM path: Microsoft.App/containerApps/revisions, with (list) for a collection.

    Deployments of groups and of subscriptions have the same name, since ARM's responses have one form.
    """
    rest = re.sub(r"(?i)^/subscriptions/[^/]+", "", unquote(path).rstrip("/"))
    if not rest or rest == "/subscriptions":
        return "subscriptions (list)" if rest else "subscriptions"
    _, found, resource = rest.rpartition("/providers/")
    if not found:
        return _scope(rest.strip("/").split("/"))
    namespace, *parts = resource.split("/")
    if not parts or parts == ["register"]:
        return "/".join(["providers/{namespace}", *parts])
    return _typed(namespace, parts)


def _typed(namespace: str, parts: list[str]) -> str:
    listed = " (list)" if len(parts) % 2 else ""
    return f"{namespace}/{'/'.join(parts[::2])}{listed}"


def _scope(parts: list[str]) -> str:
    """Return the name of a path without a provider: groups, locations, results of operations."""
    if parts[0].lower() != "resourcegroups":
        return parts[0]  # locations, operationresults, tenants, resources
    if len(parts) > 2 and parts[2].lower() == "deployments":
        return _typed("Microsoft.Resources", parts[2:])
    return "/".join(["resourceGroups", *parts[2:]]) + (" (list)" if len(parts) == 1 else "")


def _file(exchange: Exchange) -> str:
    """Return the operation of Azure Files; copies are recognised by their status, as the header is masked."""
    query, headers = exchange.query, exchange.sent_headers
    depth = len([part for part in unquote(exchange.path).split("/") if part])
    restype, comp = query.get("restype", ""), query.get("comp", "")
    name = {0: "shares", 1: "share"}.get(depth, "file")
    if restype == "directory":
        name = "directory"
    elif depth > 1 and not comp and exchange.method == "PUT":
        name = _created(exchange)
    if comp:
        name += f" {comp}"
    if comp == "range":
        write = headers.get("x-ms-write", "update")
        name += f" {write}" if write == "clear" or _length(exchange) else " from URL"
    if "sharesnapshot" in query:
        name += " of a snapshot"
    return name


def _created(exchange: Exchange) -> str:
    """Return how a file is created."""
    if exchange.status == 202:
        return "file copy"
    if "x-ms-file-permission" in exchange.sent_headers and error_code(exchange) == "FileInvalidPermission":
        return "file with a permission of its own"
    return "file with content" if _length(exchange) else "file"


def _length(exchange: Exchange) -> int:
    return int(exchange.sent_headers.get("content-length") or 0)


def _stream(path: str) -> str:
    """Return the types and the name of a stream."""
    parts = [part for part in path.strip("/").split("/") if part]
    return "/".join(parts[4::2]) if len(parts) % 2 == 0 else "/".join([*parts[4:-1:2], parts[-1]])
