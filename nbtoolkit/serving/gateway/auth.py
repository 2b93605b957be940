"""Authenticate programs by the API key and browsers by a cookie signed with it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict

from itsdangerous import BadData, URLSafeTimedSerializer

COOKIE_SECONDS = 12 * 3600
MAX_WRONG_KEYS = 5
WINDOW = 60.0
"""Wrong keys that one address may send within ``WINDOW`` seconds."""


class ApiKeyAuth:
    """Check keys and cookies. All replicas with the same key accept the same cookies."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(key.encode()).digest()
        secret = hmac.new(key.encode(), b"nbtoolkit cookie", hashlib.sha256).hexdigest()
        self._cookies = URLSafeTimedSerializer(secret, salt="login")
        # Browsers send cookies to every port of a host: two servers on one host need two names.
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
        """Check the signature and the age of a cookie value."""
        try:
            return value is not None and self._cookies.loads(value, max_age=COOKIE_SECONDS) == "in"
        except BadData:
            return False


class LoginThrottle:
    """Count wrong keys by address; drops the oldest of more than 1024 addresses."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def retry_after(self, address: str) -> int:
        """Return the seconds until an address may try again; 0 if it may try now."""
        recent = [t for t in self._failures.get(address, []) if time.monotonic() - t < WINDOW]
        if len(recent) < MAX_WRONG_KEYS:
            return 0
        return max(1, round(WINDOW - (time.monotonic() - recent[-MAX_WRONG_KEYS])))

    def record_failure(self, address: str) -> None:
        """Count one wrong key."""
        self._failures[address] = [*self._failures.pop(address, []), time.monotonic()][-MAX_WRONG_KEYS:]
        while len(self._failures) > 1024:
            self._failures.popitem(last=False)
