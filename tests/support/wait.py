"""Wait for a condition in a test."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 20, message: str = "") -> T:
    """Return the condition's first true value; fail the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, message or f"the condition was not true within {seconds:g} s"
        time.sleep(0.02)
    return value
