"""Daemon threads, which do not keep the process alive, and imports in such threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeVar

Result = TypeVar("Result")


def start_daemon(target: Callable[[], object], name: str) -> None:
    """Run ``target`` in a daemon thread and return at once."""
    threading.Thread(target=target, name=name, daemon=True).start()


async def run_in_daemon(work: Callable[[], Result], name: str) -> Result:
    """Await the result of ``work``, which runs in a daemon thread and continues if this task is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - raised where it is awaited
            error = raised
        with suppress(RuntimeError):  # the loop is closed: no task awaits the result
            loop.call_soon_threadsafe(deliver, result, error)

    start_daemon(run, name)
    return await future


@contextmanager
def paused_gc() -> Generator[None]:
    """Pause automatic garbage collection of the process, around an import that runs in a thread.

    In CPython up to 3.11, a collection inside the import system's locks breaks the import with
    ``KeyError: <thread id>`` if a finalizer imports, as one does that prints a ResourceWarning.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
