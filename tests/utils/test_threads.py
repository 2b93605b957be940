"""The threads that carry requests: never more than allowed, and there again after any pause."""

from __future__ import annotations

import threading
import time

from nbtoolkit.utils.threads import DaemonPool


def alive() -> int:
    return sum(thread.name == "nbtoolkit-pool" and thread.is_alive() for thread in threading.enumerate())


def wait_for_threads(count: int) -> None:
    deadline = time.monotonic() + 5
    while alive() > count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_work_runs_after_a_burst_and_a_pause_that_ended_all_threads() -> None:
    before = alive()
    threads = DaemonPool(2, idle_timeout=0.1)
    for _ in range(3):
        futures = [threads.submit(lambda i=i: i) for i in range(10)]
        assert [future.result(5) for future in futures] == [*range(10)]
        wait_for_threads(before)
        assert threads.submit(lambda: "alone").result(5) == "alone"
        wait_for_threads(before)


def test_no_work_is_lost_where_threads_end_just_then() -> None:
    threads = DaemonPool(3, idle_timeout=0.002)
    for i in range(300):
        assert threads.submit(lambda i=i: i).result(5) == i
        time.sleep(0.002)


def test_as_many_run_at_once_as_are_allowed_and_no_more() -> None:
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


def test_closed_threads_end_after_what_was_begun() -> None:
    before = alive()
    threads = DaemonPool(2)
    futures = [threads.submit(lambda: time.sleep(0.02)) for _ in range(6)]
    threads.close()
    for future in futures:
        future.result(5)
    wait_for_threads(before)
