"""Bear with an answer that fails now and then, while the same question is asked again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from nbtoolkit.errors import AzureFailed, NotInStore, NotSignedIn, StoreError

T = TypeVar("T")

MAX_STALE = 60.0
"""Seconds of nothing but failures until one is passed on."""


class LastAnswer:
    """Remember what was answered last, and answer with it for a while where Azure cannot.

    A deploy that waits must not be taken back because one of its many looks met a reset connection.
    """

    def __init__(self, seconds: float = MAX_STALE) -> None:
        self._seconds = seconds
        self._last: dict[str, Any] = {}
        self._failing: dict[str, float] = {}

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Return the answer, or the last one to ``what`` where asking fails for no lasting reason."""
        try:
            answer = question()
        except NotInStore:
            raise
        except (AzureFailed, StoreError) as error:
            since = self._failing.setdefault(what, time.monotonic())
            if what not in self._last or _lasting(error) or time.monotonic() - since > self._seconds:
                raise
            return cast("T", self._last[what])
        self._failing.pop(what, None)
        self._last[what] = answer
        return answer


def _lasting(error: AzureFailed | StoreError) -> bool:
    return isinstance(error, NotSignedIn) or error.status in (400, 401, 403, 404)
