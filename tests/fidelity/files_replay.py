"""Replay recorded exchanges with Azure Files against the double, one recorded test at a time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from tests.azure_double import AzureDouble

from .allowed_differences import reason_not_called
from .arm_replay import Comparison
from .client import Client
from .exchanges import Exchange, by_source, recorded
from .operation_names import exchange_kind

ACCOUNT = "storagename"
HOST = f"https://{ACCOUNT}.file.core.windows.net"
VERSION = "2019-02-02"
RENAMES = "azure-files-cpp-2022-rename.jsonl"
PYTHON = "azure-files-python-2019.jsonl"
ON_A_COPY = {f"{PYTHON}:{line}" for line in (63, 172, 173)}
"""Exchanges that read server-side copies, which nbtoolkit does not request."""

SPECIAL: dict[str, dict[str, str]] = {
    # The recorder masked these headers; their values follow from the other exchanges.
    f"{RENAMES}:5": {"x-ms-file-rename-source": "RenameFile1/RenameFile2"},
    f"{RENAMES}:10": {"x-ms-file-rename-source": "RenameFile1/RenameFile4"},
    f"{RENAMES}:11": {
        "x-ms-file-rename-source": "RenameFile1/RenameFile4",
        "x-ms-file-rename-replace-if-exists": "true",
    },
    f"{RENAMES}:15": {"x-ms-file-attributes": "ReadOnly|Archive"},
    f"{RENAMES}:16": {
        "x-ms-file-rename-source": "RenameFile1/RenameFile6",
        "x-ms-file-rename-replace-if-exists": "true",
    },
    f"{RENAMES}:17": {
        "x-ms-file-rename-source": "RenameFile1/RenameFile6",
        "x-ms-file-rename-replace-if-exists": "true",
        "x-ms-file-rename-ignore-readonly": "true",
    },
    f"{RENAMES}:20": {f"x-ms-meta-meta{number}": "value" for number in range(5)},
    f"{RENAMES}:21": {"x-ms-file-rename-source": "RenameFile1/RenameFile8"},
    f"{RENAMES}:27": {"x-ms-file-rename-source": "RenameFile1/RenameFile10/RenameFile11"},
    f"{RENAMES}:31": {"x-ms-file-rename-source": "RenameFile1/RenameFile14"},
    f"{PYTHON}:194": {"x-ms-range-get-content-md5": "true"},
}


@dataclass
class FilesReplay:
    """Send the requests of a recorded test to the double after creating its initial state."""

    client: Client
    key: str
    _made: set[str] = field(default_factory=set)

    @classmethod
    def on(cls, double: AzureDouble, client: Client) -> FilesReplay:
        """Create a storage account through ARM and read its key."""
        group = f"/subscriptions/{double.subscription}/resourcegroups/recorded"
        account = f"{group}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
        asked = {"location": "eastus", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}}
        client.arm("PUT", f"{group}?api-version=2021-04-01", b'{"location": "eastus"}')
        started = client.arm("PUT", f"{account}?api-version=2026-09-01", json.dumps(asked).encode())
        while client.arm("GET", started.headers["location"]).status == 202:
            pass
        keys = client.arm("POST", f"{account}/listKeys?api-version=2026-09-01").json["keys"]
        return cls(client, keys[0]["value"])

    def session(self, exchanges: list[Exchange]) -> Iterator[Comparison]:
        """Replay one recorded test."""
        self._made.clear()
        for exchange in exchanges:
            if not reason_not_called(exchange_kind(exchange)) and exchange.where not in ON_A_COPY:
                self._prepare(exchange)
                yield Comparison.of(exchange, self._ask(exchange))
                self._remember(exchange)

    def _ask(self, exchange: Exchange) -> Exchange:
        headers = {name: value for name, value in exchange.sent_headers.items() if name != "content-length"}
        headers |= SPECIAL.get(exchange.where, {})
        source = headers.get("x-ms-file-rename-source")
        if source:
            headers["x-ms-file-rename-source"] = f"{HOST}/{_share(exchange)}/{source}"
        if exchange.method == "PUT" and not exchange.query and "x-ms-type" not in headers:
            headers |= {"x-ms-type": "file", "x-ms-content-length": "512"}  # masked, too
        length = int(exchange.sent_headers.get("content-length") or len(exchange.sent))
        body = exchange.sent[:length].ljust(length, b"\0")  # text in other encodings was kept as text
        if "content-md5" in headers:
            headers["content-md5"] = base64.b64encode(hashlib.md5(body).digest()).decode()
        url = re.sub(r"https://[^/]+", HOST, exchange.url)
        return self.client.files(exchange.method, url, headers, body, self.key)

    def _prepare(self, exchange: Exchange) -> None:
        """Create the share, folders and file that an exchange needs, unless they exist."""
        share, *parts = _parts(exchange)
        if not share or "restype=share" in exchange.url:
            if exchange.status in (200, 202) and share:
                self._make(share, "?restype=share", {})
            return
        self._make(share, "?restype=share", {})
        if exchange.headers.get("x-ms-error-code") == "ParentNotFound":
            return
        for depth in range(1, len(parts)):
            self._make("/".join([share, *parts[:depth]]), "?restype=directory", {})
        path = "/".join([share, *parts])
        if exchange.method in ("GET", "HEAD", "DELETE") and exchange.status < 300 and parts:
            if exchange.query.get("restype") == "directory":
                self._make(path, "?restype=directory", {})
            else:
                self._make(path, "", {"x-ms-type": "file", "x-ms-content-length": _size(exchange)})

    def _make(self, path: str, query: str, headers: dict[str, str]) -> None:
        if path in self._made:
            return
        self._made.add(path)
        smb = (
            {}
            if "restype=share" in query
            else {
                "x-ms-file-permission": "inherit",
                "x-ms-file-attributes": "none",
                "x-ms-file-creation-time": "now",
                "x-ms-file-last-write-time": "now",
            }
        )
        sent = {"x-ms-version": VERSION, **smb, **headers}
        answer = self.client.files("PUT", f"{HOST}/{quote(path)}{query}", sent, b"", self.key)
        assert answer.status == 201, f"{path}: {answer.status} {answer.body!r}"

    def _remember(self, exchange: Exchange) -> None:
        path = "/".join(_parts(exchange))
        if exchange.status >= 400:
            return
        if exchange.method == "PUT":
            self._made.add(path)
        elif exchange.method == "DELETE":
            self._made.discard(path)


def replay_all(folder: Path, root: Path) -> list[Comparison]:
    """Replay every recorded test of Azure Files in one double."""
    found: list[Comparison] = []
    with AzureDouble(root) as double, Client(double) as client:
        replay = FilesReplay.on(double, client)
        for name in (PYTHON, RENAMES):
            for session in by_source(recorded(folder, name)):
                found += replay.session(session)
    assert not double.crashes, "\n".join(double.crashes)
    return found


def _parts(exchange: Exchange) -> list[str]:
    return unquote(exchange.path).strip("/").split("/")


def _share(exchange: Exchange) -> str:
    return _parts(exchange)[0]


def _size(exchange: Exchange) -> str:
    """The size of the file that was read."""
    whole = exchange.headers.get("content-range", "").partition("/")[2]
    return whole or exchange.headers.get("content-length", "0")
