"""Who may come in: the key for programs, a cookie signed from the key for browsers."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict

from itsdangerous import BadData, URLSafeTimedSerializer

COOKIE_SECONDS = 12 * 3600
MAX_WRONG_KEYS = 5
WINDOW = 60.0
"""Wrong keys that one address may send in a window of so many seconds."""


class ApiKeyAuth:
    """Check keys and cookies. Every replica with the same key accepts the same cookies."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()
        secret = hmac.new(key.encode(), b"nbtoolkit cookie", hashlib.sha256).hexdigest()
        self._cookies = URLSafeTimedSerializer(secret, salt="login")
        # Cookies ignore ports: two servers on one host need two names.
        self.cookie_name = f"nbtoolkit_{hashlib.sha256(secret.encode()).hexdigest()[:8]}"

    def accept(self, key: str) -> bool:
        """Compare a key in constant time."""
        return hmac.compare_digest(hashlib.sha256(key.encode()).digest(), self._key)

    def accept_header(self, authorization: str | None) -> bool:
        """Check an ``Authorization: Bearer`` header."""
        scheme, _, key = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.accept(key.strip())

    def cookie(self) -> str:
        """Return a new cookie value."""
        return self._cookies.dumps("in")

    def accept_cookie(self, value: str | None) -> bool:
        """Check a cookie value: signed with this key, and young enough."""
        try:
            return value is not None and self._cookies.loads(value, max_age=COOKIE_SECONDS) == "in"
        except BadData:
            return False


class LoginThrottle:
    """Count wrong keys by address; forgets the oldest addresses, so it stays small."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def retry_after(self, address: str) -> int:
        """Return for how many more seconds an address may not try."""
        recent = [t for t in self._wrong.get(address, []) if time.monotonic() - t < WINDOW]
        if len(recent) < MAX_WRONG_KEYS:
            return 0
        return max(1, round(WINDOW - (time.monotonic() - recent[-MAX_WRONG_KEYS])))

    def record_failure(self, address: str) -> None:
        """Count one wrong key."""
        self._wrong[address] = [*self._wrong.pop(address, []), time.monotonic()][-MAX_WRONG_KEYS:]
        while len(self._wrong) > 1024:
            self._wrong.popitem(last=False)
