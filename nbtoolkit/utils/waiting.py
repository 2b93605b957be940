"""Wait for what may hang, no longer than until a cancel: what hangs is left behind and ends by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import Lanes

T = TypeVar("T")

BEAT = 0.25
"""Seconds between two looks for a cancel."""


class TooLong(Exception):
    """What was waited for has not ended in time, and goes on."""


def patiently(progress: Progress | None, call: Callable[[], T], within: float | None = None) -> T:
    """Return what ``call`` returns, or raise what it raises; it runs in a thread of its own.

    A cancel, or ■, is heard within a quarter of a second: what ``call`` has asked for may happen all the
    same. Raises TooLong where it takes longer than ``within`` seconds.
    """
    return at_once(progress, {"": call}, within)[""].result()


def at_once(
    progress: Progress | None, calls: Mapping[str, Callable[[], T]], within: float | None = None
) -> dict[str, Future[T]]:
    """Make all calls at the same time and return their futures, all of which have ended; see patiently."""
    progress = progress or SILENT()
    end = None if within is None else time.monotonic() + within
    lanes = Lanes(len(calls))
    futures: dict[str, Future[T]] = {name: lanes.start(call) for name, call in calls.items()}
    waiting: set[Future[Any]] = set(futures.values())
    try:
        while waiting:
            left = BEAT if end is None else end - time.monotonic()
            if left <= 0:
                raise TooLong(f"no answer within {within:g} s")
            _, waiting = wait(waiting, timeout=min(BEAT, left))
            progress.check()
    finally:
        for future in waiting:
            future.cancel()
        lanes.close()
    return futures
