"""The wheels that a container installs from the share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbtoolkit.container_runtime.images import TRANSFORMERS, ContainerRuntime
from nbtoolkit.container_runtime.wheel_download import fetch_wheels
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.progress import Progress
from nbtoolkit.workspace import Workspace

NO_WHEELS = "none"
"""The lock's name for an image that contains every package."""


@dataclass(frozen=True)
class SharedWheels:
    """The wheels of one runtime, cached on this machine between deploys."""

    runtime: ContainerRuntime
    cache: Path

    @property
    def sha256(self) -> str:
        """The sha256 of the lock."""
        return self.runtime.wheels_sha256

    def files(self, progress: Progress) -> Mapping[str, Path]:
        """Return the lock and its wheels by file name; downloads the missing ones."""
        return fetch_wheels(self.runtime, self.cache, progress).files


def resolve_wheels(lock: str | None, workspace: Workspace) -> SharedWheels | None:
    """Return the wheels of a lock, by default of the transformers engine; None for ``"none"``.

    Raises :class:`InvalidSettings` if the lock is not a file.
    """
    if lock == NO_WHEELS:
        return None
    runtime = TRANSFORMERS
    if lock:
        path = workspace.path(lock)
        if not path.is_file():
            raise InvalidSettings(
                f"The lock of the container's packages, {path}, is not a file.",
                next_step="leave wheels_lock out, or make one: python -m nbtoolkit.container_runtime.lock",
            )
        runtime = replace(runtime, lock=path)
    return SharedWheels(runtime, workspace.cache)
