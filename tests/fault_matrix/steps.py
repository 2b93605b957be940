"""What a step under test offers, and the sign-ins that steps use."""

from __future__ import annotations

from typing import Any, Protocol

from nbtoolkit.azure.auth.shared_credential import SharedCredential
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.progress import Progress

_clouds: list[Cloud] = []


class Step(Protocol):
    """One step: made ready, run, judged after a failure and after the run that followed."""

    name: str

    def prepare(self) -> None:
        """Bring about what the step begins with."""

    def run(self, progress: Progress) -> object:
        """Run it, as a new process would: nothing is signed in yet."""

    def watched(self) -> Any:
        """A context in which it is seen what happens to others meanwhile."""

    def left(self, error: Exception | None) -> list[str]:
        """What is wrong after a run that failed, or succeeded (None), in words."""

    def finished(self) -> list[str]:
        """What is wrong after the run that followed, in words."""


def new_cloud() -> Cloud:
    """A sign-in that no other step has used."""
    _clouds.append(Cloud(SharedCredential()))
    return _clouds[-1]


def close_clouds() -> None:
    """Close the connections of all that were made so far."""
    while _clouds:
        _clouds.pop().close()
