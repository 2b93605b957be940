"""What a person would read of a step, and waiting for what comes in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

from nbtoolkit.progress import Progress


class Told(Progress):
    """Keep what a person would read."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def show(self, text: str) -> None:
        self.lines.append(text.strip())

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self.lines)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Return once it is true; fail the test after that many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
