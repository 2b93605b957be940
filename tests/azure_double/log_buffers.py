"""What containers print and what the platform notes, kept for readers that come later or follow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Record = TypeVar("Record")


@dataclass(frozen=True)
class Line:
    """One line of a container, with the moment at which it came, as Azure writes it."""

    stamp: str
    text: str


class Buffer(Generic[Record]):
    """An append-only list that several threads write and follow; `close` ends all who follow."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._news = threading.Condition()
        self._closed = False

    def add(self, record: Record) -> None:
        """Append and wake who follows."""
        with self._news:
            self._records.append(record)
            self._news.notify_all()

    def close(self) -> None:
        """No more will come."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        return len(self._records)

    def all(self) -> list[Record]:
        """All so far."""
        with self._news:
            return list(self._records)

    def follow(self, at: int, ended: Callable[[], bool], patience: float) -> Iterator[Record | None]:
        """Yield all from index `at` on as it comes; None after `patience` real seconds without news.

        Ends when the buffer is closed or `ended()` says so.
        """
        while True:
            with self._news:
                if at >= len(self._records) and not self._closed:
                    self._news.wait(patience)
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
