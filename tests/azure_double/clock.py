"""Azure's time, scaled: minutes pass in a second of a test."""

from __future__ import annotations

import datetime
import threading
import time


class Clock:
    """Sleep Azure seconds, `scale` real ones each. Stamps are real time: clients compare them with theirs."""

    def __init__(self, scale: float = 0.01) -> None:
        self.scale = scale
        self._stopped = threading.Event()

    def real(self, azure_seconds: float) -> float:
        """Real seconds for Azure's."""
        return azure_seconds * self.scale

    def azure(self, real_seconds: float) -> float:
        """Azure seconds for real ones."""
        return real_seconds / self.scale

    def sleep(self, azure_seconds: float) -> None:
        """Wait; return at once when the double stops."""
        self._stopped.wait(self.real(azure_seconds))

    def stop(self) -> None:
        """End all sleeps."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def monotonic(self) -> float:
        """Azure seconds since some moment, for durations and deadlines."""
        return self.azure(time.monotonic())

    def retry_after(self, azure_seconds: float) -> str:
        """A Retry-After header's value in scaled time; whole seconds, as the SDKs read it, so often 0."""
        return str(round(self.real(azure_seconds)))

    @staticmethod
    def now() -> datetime.datetime:
        """The time of day, UTC."""
        return datetime.datetime.now(datetime.UTC)

    @classmethod
    def stamp(cls) -> str:
        """The time of day as ARM writes it: seven digits of a second and Z."""
        return cls.now().strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z"
