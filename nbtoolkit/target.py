"""Protocols of a target: a machine or a cloud that serves releases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.filestore import FileStore
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import Progress
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.utils.display import FactTable
from nbtoolkit.workspace import Workspace

TargetState = Literal["stopped", "asleep", "starting", "ready", "degraded", "failed"]


@dataclass(frozen=True, repr=False)
class TargetStatus(FactTable):
    """The status of a target; prints as a table, also in a notebook.

    ``state`` is ``degraded`` if a server answers without the published release, and ``asleep`` if nothing
    runs and a request starts a server. ``facts`` are further rows, label → text. Reading a status never
    wakes a sleeping server.
    """

    target: str
    state: TargetState
    summary: str
    url: str | None = None
    release: str | None = None
    facts: dict[str, str] = field(default_factory=dict[str, str])

    def rows(self) -> list[tuple[str, str]]:
        """Return the rows of the table, as label and text."""
        rows = [("target", self.target), ("state", f"{self.state}: {self.summary}")]
        if self.url:
            rows.append(("endpoint", self.url))
        if self.release:
            rows.append(("release", self.release))
        return [*rows, *self.facts.items()]


class WheelSource(Protocol):
    """The wheels that servers install from the share before they start."""

    @property
    def sha256(self) -> str:
        """The sha256 of the lock that names the wheels."""
        ...

    def files(self, progress: Progress) -> Mapping[str, Path]:
        """Return the lock and all its wheels by file name; downloads the missing ones."""
        ...


class DeployingTarget(Protocol):
    """The part that a deploy uses: a share, and replicas of the server that poll it for releases."""

    @property
    def workspace(self) -> Workspace:
        """The workspace whose reports, lock and settings apply."""
        ...

    @property
    def name(self) -> str:
        """The target's name in the workspace's lock and in messages."""
        ...

    @property
    def share(self) -> FileStore:
        """The file share that every replica mounts."""
        ...

    @property
    def poll(self) -> float:
        """Seconds between two polls of the replicas."""
        ...

    def wheels(self, lock: str | None = None) -> WheelSource | None:
        """Return the wheels that servers install from the share, None if they are already installed.

        ``lock`` names a lock other than the target's default, or ``"none"``.
        """
        ...

    def base_path(self, base: Base) -> str:
        """Return the path of a local base model for servers: absolute, or relative to the mount.

        A deploy uploads the base to a path that :func:`nbtoolkit.serving.share_layout.base_path` returns.
        """
        ...

    def check_memory(
        self, base: Base, quantization: Literal["none", "nf4"], *, override: bool, progress: Progress
    ) -> None:
        """Raise :class:`InvalidSettings` if the base model does not fit into the memory of a replica.

        It is an estimate: with ``override`` it is only noted in ``progress``.
        """
        ...

    def provision(self, progress: Progress | None = None, *, custom_server: bool = False) -> None:
        """Create what serving requires, or raise with the next step; a second call changes nothing.

        A ``custom_server`` may need less than the built-in one.
        """
        ...

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Raise, before anything is published, if servers cannot restart under ``allow_downtime``."""
        ...

    def activate(
        self,
        release: Release,
        *,
        restart: bool,
        allow_downtime: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Make servers run that will serve the published ``release``.

        With ``restart`` running servers are restarted with the release's code; without it they hot-swap.
        Returns once the change is requested; raises :class:`ServerFailed`, and the errors of
        :meth:`check_restart`.
        """
        ...

    def replicas(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the names of the running replicas; empty if the target is asleep or stopped.

        With ``refresh`` the list comes from the process table or ARM; without it recent heartbeats suffice.
        """
        ...

    def heartbeat(self, replica: str) -> Heartbeat | None:
        """Return the last heartbeat of a replica since its start, None before the first one."""
        ...

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed`, with the last log lines, if a server that must run has died."""
        ...

    def not_ready_reason(self) -> str:
        """Return why servers are not ready yet; empty if the target has no information."""
        ...

    def startup_phases(self) -> str:
        """Return the phases of the last startup with their seconds; empty if unknown."""
        ...


class OperableTarget(Protocol):
    """The part that operating uses: status, logs, the endpoint, and stopping."""

    @property
    def key_location(self) -> str:
        """Where the endpoint's key is stored, as text."""
        ...

    def status(self) -> TargetStatus:
        """Return the status, without waking anything."""
        ...

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last ``tail`` log lines (None: all available), then with ``follow`` new ones."""
        ...

    def endpoint(self) -> Endpoint:
        """Return the URL and key of the served release; raises :class:`NotReady` if nothing is served."""
        ...

    def is_asleep(self) -> bool:
        """Return whether nothing runs and a request would start a server."""
        ...

    def stop(self, progress: Progress | None = None) -> None:
        """Stop all servers; stored files stay."""
        ...

    def scale_to_zero(self, progress: Progress | None = None) -> None:
        """Stop all servers; the next request starts one if the target supports that."""
        ...

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop, and delete only what nbtoolkit put there."""
        ...


class CustomServerTarget(Protocol):
    """The part that only a custom server (``server="own"``) uses."""

    def has_start_commands(self) -> bool:
        """Return whether the target itself defines how the custom server starts."""
        ...

    def responds(self) -> bool:
        """Return whether the custom server answers HTTP requests, with any status."""
        ...


class Target(DeployingTarget, OperableTarget, CustomServerTarget, Protocol):
    """A machine or a cloud that serves releases: a share, replicas that mount it, and an endpoint."""
