"""Buffers of container output and system events for readers that start later or follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Record = TypeVar("Record")


@dataclass(frozen=True)
class Line:
    """One line of a container, with its time stamp in Azure's format."""

    stamp: str
    text: str


class Buffer(Generic[Record]):
    """A thread-safe append-only list that can be followed; `close` ends all followers."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._news = threading.Condition()
        self._closed = False

    def add(self, record: Record) -> None:
        """Append a record and wake the followers."""
        with self._news:
            self._records.append(record)
            self._news.notify_all()

    def close(self) -> None:
        """Close the buffer: no record follows."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        return len(self._records)

    def all(self) -> list[Record]:
        """Return all records until now."""
        with self._news:
            return list(self._records)

    def follow(self, at: int, ended: Callable[[], bool], interval: float) -> Iterator[Record | None]:
        """Yield all records from index `at` on; None after `interval` real seconds without one.

        Ends when the buffer is closed or `ended()` returns True.
        """
        while True:
            with self._news:
                if at >= len(self._records) and not self._closed:
                    self._news.wait(interval)
                fresh = self._records[at:]
                closed = self._closed
            at += len(fresh)
            if ended():
                return
            yield from fresh
            if not fresh:
                if closed:
                    return
                yield None
