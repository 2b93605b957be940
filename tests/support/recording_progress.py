"""A progress that records what it shows, and progresses that end a run at a line."""

from __future__ import annotations

from collections.abc import Callable

from nbtoolkit.progress import Progress


class RecordingProgress(Progress):
    """Record lines and advances; pass each line to ``on_line``. ``text in progress`` searches the lines."""

    def __init__(self, on_line: Callable[[str], object] = lambda _: None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.advances: list[tuple[float, float | None, str]] = []
        self._on_line = on_line

    def show(self, text: str) -> None:
        self.lines.append(text.strip())
        self._on_line(text)

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        self.advances.append((done, total, unit))

    def __contains__(self, text: str) -> bool:
        return any(text in line for line in self.lines)


class Killed(BaseException):
    """Ends a run like the end of the kernel: no code of the toolkit handles it."""


def call_at(text: str, call: Callable[[], object]) -> RecordingProgress:
    """Return a progress that makes a call at each line with ``text``."""
    return RecordingProgress(lambda line: call() if text in line else None)


def raise_at(text: str, error: type[BaseException] = Killed) -> RecordingProgress:
    """Return a progress that raises an error at each line with ``text``."""

    def end() -> None:
        raise error

    return call_at(text, end)


def cancel_at(text: str) -> RecordingProgress:
    """Return a progress that cancels the run at each line with ``text``."""
    progress = call_at(text, lambda: progress.cancel())
    return progress
