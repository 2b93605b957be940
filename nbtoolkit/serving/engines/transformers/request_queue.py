"""Requests that wait for a row, first in first out."""

from __future__ import annotations

from collections import deque

from .sequence import Sequence


class WaitingQueue:
    """The waiting sequences of all adapters in one order."""

    def __init__(self) -> None:
        self.waiting: deque[Sequence] = deque()

    def drop_cancelled(self) -> None:
        """Forget those whose client went away."""
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(s for s in self.waiting if not s.cancelled)

    def take(self, room: int, tokens: int) -> list[Sequence]:
        """Take the first, and those right behind it that are prefilled well together with it.

        At most ``room`` sequences of one adapter, about as long, ``tokens`` in all with padding; none
        overtakes an earlier one.
        """
        if not self.waiting or room <= 0:
            return []
        first = self.waiting.popleft()
        together = [first]
        longest = used = len(first.prompt)
        while self.waiting and len(together) < room:
            other = self.waiting[0]
            longest = max(longest, len(other.prompt))
            used += len(other.prompt)
            padded = longest * (len(together) + 1)
            if other.adapter != first.adapter or padded > tokens or padded > 2 * used:
                break
            together.append(self.waiting.popleft())
        return together
