"""DaemonPool, run_cancellable and event_loop: limits, idle timeout, errors, timeouts, interpreter exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import CallTimeout, DaemonPool, event_loop, run_all_cancellable, run_cancellable
from tests.support.wait import wait_until


def alive() -> int:
    return sum(thread.name == "nbtoolkit-pool" and thread.is_alive() for thread in threading.enumerate())


def wait_for_threads(count: int) -> None:
    wait_until(lambda: alive() <= count)


def test_a_call_runs_after_all_idle_threads_ended() -> None:
    before = alive()
    threads = DaemonPool(2, idle_timeout=0.1)
    for _ in range(3):
        futures = [threads.submit(lambda i=i: i) for i in range(10)]
        assert [future.result(5) for future in futures] == [*range(10)]
        wait_for_threads(before)
        assert threads.submit(lambda: "alone").result(5) == "alone"
        wait_for_threads(before)


def test_no_call_is_lost_while_threads_end() -> None:
    threads = DaemonPool(3, idle_timeout=0.002)
    for i in range(300):
        assert threads.submit(lambda i=i: i).result(5) == i
        time.sleep(0.002)


def test_at_most_max_threads_calls_run_concurrently() -> None:
    threads, lock = DaemonPool(3), threading.Lock()
    running, most = 0, 0
    full = threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                full.set()
        assert full.wait(5)
        time.sleep(0.01)
        with lock:
            running -= 1

    for future in [threads.submit(work) for _ in range(9)]:
        future.result(5)
    assert most == 3


def test_close_ends_threads_after_the_queued_calls() -> None:
    before = alive()
    threads = DaemonPool(2)
    futures = [threads.submit(lambda: time.sleep(0.02)) for _ in range(6)]
    threads.close()
    for future in futures:
        future.result(5)
    wait_for_threads(before)


def test_run_cancellable_returns_the_result_or_raises_the_error() -> None:
    assert run_cancellable(None, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        run_cancellable(Progress(), lambda: 1 // 0)
    assert run_all_cancellable(None, {}) == {}


def test_run_all_cancellable_runs_calls_concurrently() -> None:
    meeting = threading.Barrier(3, timeout=5)
    answers = run_all_cancellable(None, {str(n): meeting.wait for n in range(3)})
    assert sorted(answer.result() for answer in answers.values()) == [0, 1, 2]


def test_run_cancellable_times_out() -> None:
    began, over = time.monotonic(), threading.Event()
    with pytest.raises(CallTimeout, match=r"0\.3 s"):
        run_cancellable(None, over.wait, timeout=0.3)
    assert time.monotonic() - began < 1
    over.set()


def test_a_hanging_call_does_not_keep_the_interpreter_alive() -> None:
    code = """
import threading
from nbtoolkit.azure.files.transport import make_transport
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable
progress = Progress()
threading.Timer(0.1, progress.cancel).start()
try:
    run_cancellable(progress, threading.Event().wait)
except Cancelled:
    print("cancelled")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout == "cancelled\n"


def test_event_loop_runs_tasks_in_one_thread_and_cancels_them_at_the_end() -> None:
    seen: list[str] = []
    threads = set[threading.Thread]()

    async def fail() -> None:
        threads.add(threading.current_thread())
        raise ValueError("no")

    async def wait_forever() -> None:
        threads.add(threading.current_thread())
        seen.append("started")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    with event_loop(name="test") as start:
        endless = start(wait_forever())
        with pytest.raises(ValueError, match="no"):
            start(fail()).result(10)
    assert endless.cancelled()
    assert seen == ["started", "cancelled"]
    (thread,) = threads
    thread.join(10)
    assert not thread.is_alive()
