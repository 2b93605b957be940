"""Replay recorded exchanges with ARM and Container Apps against the double, one recorded test at a time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from tests.azure_double import AzureDouble

from .allowed_differences import AllowedDifference, allowed_difference
from .client import MANAGEMENT, Client
from .compare import differences
from .exchanges import Exchange
from .operation_names import STREAMS, ExchangeKind, exchange_kind

POLL_TIMEOUT = 10.0
"""Real seconds to wait for replicas and states that appear later."""
MASKED = "***"
_REVISION = re.compile(r"[a-z0-9-]+--[a-z0-9-]+")
_LEARNED = (
    "name",
    "latestRevisionName",
    "latestReadyRevisionName",
    "revisionName",
    "fqdn",
    "latestRevisionFqdn",
)
_WAITS = ("InProgress", "Running", "Accepted")


@dataclass(frozen=True)
class Comparison:
    """A recorded exchange and its differences from the double's response."""

    recorded: Exchange
    kind: ExchangeKind
    found: tuple[str, ...]
    """Differences that are not allowed."""
    allowed: frozenset[AllowedDifference] = frozenset()
    """The reasons of the allowed differences."""

    @classmethod
    def of(cls, recorded: Exchange, answered: Exchange, wanted: Exchange | None = None) -> Comparison:
        """Compare two exchanges; `wanted` is the recording with the double's names."""
        this = exchange_kind(recorded)
        found = differences(wanted or recorded, answered)
        reasons = {difference: allowed_difference(this.operation, difference) for difference in found}
        allowed = frozenset(reason for reason in reasons.values() if reason)
        return cls(recorded, this, tuple(each for each in found if not reasons[each]), allowed)


@dataclass
class ArmReplay:
    """Send the requests of a recorded test to the double, with the double's generated names."""

    double: AzureDouble
    client: Client
    replaced: Mapping[str, str] = field(default_factory=dict)
    """Replacements in the sent bodies."""
    key: str = ""
    """The account's key, which the recording has masked."""
    _names: dict[str, str] = field(default_factory=dict)
    _polls: dict[str, str] = field(default_factory=dict)
    """The recorded path of an operation → the double's URL."""
    _open: list[str] = field(default_factory=list)

    def prepare(self, method: str, path: str, body: Any = None) -> Any:
        """Create the initial state of a recorded test, `path` below the subscription; return the body."""
        self.settle()
        url = f"/subscriptions/{self.double.subscription}{path}"
        answer = self.client.arm(method, url, b"" if body is None else json.dumps(body).encode())
        assert answer.status < 300, f"{method} {path}: {answer.status} {answer.body!r}"
        self._follow(answer)
        self.settle()
        return answer.json

    def replay(self, recorded: Exchange) -> Comparison:
        """Send the recorded request and compare the responses."""
        asked = self._translated(recorded)
        poll = self._polls.get(recorded.path.lower()) if recorded.method == "GET" else None
        if poll:
            answered = self._poll(recorded, poll)
        else:
            self.settle()
            answered = self._ask(asked)
        compared = Comparison.of(recorded, answered, self._translated(recorded))
        end = time.monotonic() + POLL_TIMEOUT
        while compared.found and recorded.method == "GET" and not poll and time.monotonic() < end:
            time.sleep(0.05)
            answered = self._ask(self._translated(recorded))
            compared = Comparison.of(recorded, answered, self._translated(recorded))
        self._learn(recorded, answered)
        return compared

    def settle(self) -> None:
        """Wait for all started operations, as the recorded client did."""
        for url in self._open:
            end = time.monotonic() + 30
            while not _ended(self.client.arm("GET", url)):
                assert time.monotonic() < end, f"{url} does not end"
                time.sleep(0.02)
        self._open.clear()

    def _poll(self, recorded: Exchange, url: str) -> Exchange:
        end = time.monotonic() + 30
        answered = self.client.arm("GET", url)
        while _ended(recorded) and not _ended(answered) and time.monotonic() < end:
            time.sleep(0.02)
            answered = self.client.arm("GET", url)
        return answered

    def _ask(self, asked: Exchange) -> Exchange:
        if asked.host.endswith(STREAMS):
            return self.client.stream(asked.url)
        if asked.host != urlsplit(MANAGEMENT).netloc:
            return self.client.send(asked.method, asked.url)
        return self.client.arm(asked.method, asked.url, asked.sent)

    def _translated(self, recorded: Exchange) -> Exchange:
        body = recorded.sent.decode()
        for old, new in self.replaced.items():
            body = body.replace(old, new)
        if self.key:
            body = body.replace(f'"accountKey": "{MASKED}"', f'"accountKey": "{self.key}"')
        return replace(
            recorded,
            url=self._renamed(recorded.url),
            sent=self._renamed(body).encode(),
            body=self._renamed(recorded.body.decode()).encode(),
        )

    def _renamed(self, text: str) -> str:
        text = re.sub(r"(?i)(/subscriptions/)[0-9a-f-]{36}", rf"\g<1>{self.double.subscription}", text)
        for old in sorted(self._names, key=len, reverse=True):
            text = text.replace(old, self._names[old])
        return text

    def _follow(self, answered: Exchange) -> None:
        url = answered.headers.get("azure-asyncoperation") or answered.headers.get("location")
        if url and answered.status in (200, 201, 202) and "/operat" in url.lower() + "/operat":
            self._open.append(url)

    def _learn(self, recorded: Exchange, answered: Exchange) -> None:
        """Store the double's names of operations, revisions, replicas and hosts, and its tokens."""
        for name in ("azure-asyncoperation", "location"):
            if name in recorded.headers and name in answered.headers:
                self._polls[urlsplit(recorded.headers[name]).path.lower()] = answered.headers[name]
        if recorded.method != "GET":
            self._follow(answered)
        for key, there, here in _pairs(recorded.json, answered.json):
            if key == "token":
                self.client.stream_token = here
            elif key == "value" and there == MASKED and recorded.path.endswith("/listKeys"):
                self.key = self.key or here
            elif key in _LEARNED and there != here and ("." in there or _REVISION.fullmatch(there)):
                self._names[there] = here


def _pairs(recorded: Any, answered: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield the texts at the same position of both values, with their key."""
    if isinstance(recorded, str) and isinstance(answered, str):
        yield key, recorded, answered
    elif isinstance(recorded, dict) and isinstance(answered, dict):
        for name in recorded.keys() & answered.keys():
            yield from _pairs(recorded[name], answered[name], name)
    elif isinstance(recorded, list) and isinstance(answered, list):
        for there, here in zip(recorded, answered, strict=False):
            yield from _pairs(there, here, key)


def _ended(answer: Exchange) -> bool:
    if answer.status == 202:
        return False
    body = answer.json
    if not isinstance(body, dict):
        return True
    state = body.get("status") or (body.get("properties") or {}).get("provisioningState")
    return state not in (*_WAITS, "Creating", "Waiting", "Updating")
