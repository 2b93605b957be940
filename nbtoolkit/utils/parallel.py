"""Do one thing with many items in threads, with progress and cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import TypeVar

from nbtoolkit.filestore.chunked_io import Sent
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.threads import Lanes

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = 8
"""Enough for what is done on this machine, such as hashing."""

LEAVE = 1.5
"""Seconds that the others have to end after one failed; a request without an answer takes longer."""


class _Stopped(Exception):
    """Another item failed, or the user cancelled; never leaves this module."""


def each(
    function: Callable[[Item, Sent], Result],
    items: Sequence[Item],
    *,
    progress: Progress | None = None,
    total: int | None = None,
    workers: int = WORKERS,
) -> list[Result]:
    """Return ``function(item, passed)`` for every item, in the order of the items.

    ``function`` calls ``passed`` with the bytes of each chunk; the sum is reported against ``total`` four
    times a second, from the calling thread. The first error, a cancel among them, stops the others at
    their next chunk and is raised; what hangs by then ends later, by itself.
    """
    progress = progress or SILENT()
    if not items:
        return []
    stop, lock, done = threading.Event(), threading.Lock(), 0

    def passed(count: int) -> None:
        nonlocal done
        if stop.is_set():
            raise _Stopped
        with lock:
            done += count

    def one(item: Item) -> Result:
        passed(0)
        return function(item, passed)

    lanes = Lanes(min(workers, len(items)))
    futures: list[Future[Result]] = [lanes.start(lambda item=item: one(item)) for item in items]
    waiting = set(futures)
    try:
        while waiting:
            finished, waiting = wait(waiting, timeout=0.25, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            progress.advance(done, total, "B")
    finally:
        stop.set()
        wait([future for future in waiting if not future.cancel()], LEAVE)
        lanes.close()
    return [future.result() for future in futures]
