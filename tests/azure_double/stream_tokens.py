"""Tokens of getAuthToken: each opens the streams of one app or environment, for an hour."""

from __future__ import annotations

import secrets
import time


class StreamTokens:
    """Issues and validates tokens."""

    def __init__(self) -> None:
        self.lifetime = 3600.0
        """Real seconds."""
        self._given: dict[str, tuple[str, float]] = {}

    def issue(self, owner: str) -> tuple[str, str]:
        """A token and when it ends."""
        ends = time.time() + self.lifetime
        token = f"stream-{secrets.token_urlsafe(24)}"
        self._given[token] = (owner, ends)
        return token, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ends)) + ".4062011Z"

    def opens(self, token: str, owner: str) -> bool:
        """Whether this token opens the streams of that app or environment."""
        whose, ends = self._given.get(token, ("", 0.0))
        return whose == owner.lower() and ends > time.time()
