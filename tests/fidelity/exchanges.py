"""An exchange with Azure: recorded, or with the double."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

RECORDINGS = (
    "containerapp-cli-2025.jsonl",
    "arm-deployments-azd-2026.jsonl",
    "azure-files-python-2019.jsonl",
    "azure-files-cpp-2022-rename.jsonl",
)
_PLACEHOLDER = re.compile(r"<(\d+) bytes>")


@dataclass(frozen=True)
class Exchange:
    """A request and its answer; header names are lower case."""

    where: str
    """The file and line of a recording."""
    source: str
    """The recorded test that it belongs to."""
    method: str
    url: str
    status: int
    sent_headers: Mapping[str, str] = field(default_factory=dict)
    sent: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @cached_property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @cached_property
    def path(self) -> str:
        return urlsplit(self.url).path

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @cached_property
    def json(self) -> Any:
        """The response's body, None if it is not JSON."""
        return as_json(self.body)


def as_json(body: bytes) -> Any:
    """Return the JSON value of a body, or None."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except ValueError:
        return None


def recorded(folder: Path, name: str) -> list[Exchange]:
    """Return the exchanges of one recording, oldest first."""
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return [_exchange(f"{name}:{number}", json.loads(line)) for number, line in enumerate(lines, 1)]


def by_source(exchanges: list[Exchange]) -> Iterator[list[Exchange]]:
    """Yield the exchanges of each recorded test."""
    session: list[Exchange] = []
    for exchange in exchanges:
        if session and session[-1].source != exchange.source:
            yield session
            session = []
        session.append(exchange)
    if session:
        yield session


def _exchange(where: str, line: dict[str, Any]) -> Exchange:
    return Exchange(
        where,
        line["source"],
        line["method"],
        _whole(line["url"]),
        line["status"],
        {name.lower(): value for name, value in line["req_headers"].items()},
        _bytes(line["req_body"]),
        {name.lower(): _whole(value) for name, value in line["resp_headers"].items()},
        _bytes(line["resp_body"]),
    )


def _bytes(body: str | None) -> bytes:
    """Return a body; a placeholder becomes zeros of the recorded length."""
    if not body:
        return b""
    placeholder = _PLACEHOLDER.fullmatch(body)
    return bytes(int(placeholder[1])) if placeholder else body.encode()


def _whole(url: str) -> str:
    """Return a URL with the slash after the provider's name that masking removed in one recorded test."""
    return url.replace("/Microsoft.Applocations/", "/Microsoft.App/locations/")
