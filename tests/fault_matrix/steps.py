"""The protocol of a step under test, and the clients that steps use."""

from __future__ import annotations

from typing import Any, Protocol

from nbtoolkit.azure.auth.shared_credential import SharedCredential
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.progress import Progress

from .fast_azure import POLL_INTERVAL

_clouds: list[Cloud] = []


class Step(Protocol):
    """A step: prepared, run, checked after a fault and after the next run."""

    name: str

    def prepare(self) -> None:
        """Establish the state before the step."""

    def run(self, progress: Progress) -> object:
        """Run the step with a new sign-in, as a new process would."""

    def watched(self) -> Any:
        """Return a context that observes other clients during the step."""

    def check_after_fault(self, error: Exception | None) -> list[str]:
        """Return the problems after a run that ended with ``error``, None for success."""

    def check_after_retry(self) -> list[str]:
        """Return the problems after the next run."""


def new_cloud() -> Cloud:
    """Return clients with their own sign-in."""
    _clouds.append(Cloud(SharedCredential(), poll_interval=POLL_INTERVAL))
    return _clouds[-1]


def close_clouds() -> None:
    """Close the connections of all clients."""
    while _clouds:
        _clouds.pop().close()
