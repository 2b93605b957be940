"""Where releases run, whatever the place: this machine, or a cloud."""

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

State = Literal["stopped", "asleep", "starting", "ready", "degraded", "failed"]


@dataclass(frozen=True, repr=False)
class TargetStatus(FactTable):
    """How a target stands; prints well as text and in a notebook.

    ``state`` is ``degraded`` where something answers but not what was published, and ``asleep`` where nothing
    runs and a request starts a server. ``facts`` are further lines, label → text. Reading a status never
    wakes a server that sleeps.
    """

    target: str
    state: State
    summary: str
    url: str | None = None
    release: str | None = None
    facts: dict[str, str] = field(default_factory=dict[str, str])

    def rows(self) -> list[tuple[str, str]]:
        """Return what is known, as label and text."""
        rows = [("target", self.target), ("state", f"{self.state}: {self.summary}")]
        if self.url:
            rows.append(("endpoint", self.url))
        if self.release:
            rows.append(("release", self.release))
        return [*rows, *self.facts.items()]


class WheelSource(Protocol):
    """The packages that servers install from the share before they start."""

    @property
    def sha256(self) -> str:
        """The identity of the lock that names them."""
        ...

    def files(self, progress: Progress) -> Mapping[str, Path]:
        """Return the lock and every package that it names, by file name; fetched where they are missing."""
        ...


class Target(Protocol):
    """A place where releases run: a share, replicas of the server that watch it, and an endpoint."""

    @property
    def workspace(self) -> Workspace:
        """Whose reports, lock and settings count."""
        ...

    @property
    def name(self) -> str:
        """What the workspace's lock and messages call this target."""
        ...

    @property
    def key_place(self) -> str:
        """Where the endpoint's key is kept, in words."""
        ...

    @property
    def share(self) -> FileStore:
        """The file share that every replica mounts."""
        ...

    @property
    def poll(self) -> float:
        """Seconds between two looks at its replicas while something is waited for."""
        ...

    def wheels(self, lock: str | None = None) -> WheelSource | None:
        """Return the packages that its servers install from the share, None where they find them on disk.

        ``lock`` names another lock than the target's own, or ``"none"``.
        """
        ...

    def base_path(self, base: Base) -> str:
        """Return where servers find a base model of this machine: absolute, or relative to the mount.

        A path that :func:`nbtoolkit.serving.share_layout.base_path` gives is one that a deploy sends it to.
        """
        ...

    def provision(self, progress: Progress | None = None, *, own: bool = False) -> None:
        """Make what must exist before anything can be served, or say what to do; again changes nothing.

        ``own`` says that the user's own server shall run, which may need less than ours.
        """
        ...

    def starts_own(self) -> bool:
        """Tell whether the place knows by itself how the user's own server starts."""
        ...

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Raise, before anything is published, where servers cannot be started anew as is allowed."""
        ...

    def activate(
        self,
        release: Release,
        *,
        restart: bool,
        allow_downtime: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """See to it that servers run and will serve the published ``release``.

        With ``restart`` running servers are started anew with the release's code; otherwise they swap by
        themselves. Returns once they were asked to; raises :class:`ServerFailed`, and what
        :meth:`check_restart` raises.
        """
        ...

    def replicas(self, *, sure: bool = False) -> tuple[str, ...]:
        """Return the names of the replicas that run, none where the target sleeps or is stopped.

        With ``sure`` the place itself is asked, at its cost; otherwise fresh heartbeats may do.
        """
        ...

    def heartbeat(self, replica: str) -> Heartbeat | None:
        """Return what a replica last said of itself since it started, None where nothing yet."""
        ...

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed`, with the last log lines, where a server that should run died."""
        ...

    def waiting_for(self) -> str:
        """Return what keeps servers from serving, as the place sees it; empty where it knows nothing."""
        ...

    def phases(self) -> str:
        """Return what the last start went through and for how long; empty where that is not known."""
        ...

    def answers(self) -> bool:
        """Tell whether the user's own server answers HTTP at all, whatever it says."""
        ...

    def status(self) -> TargetStatus:
        """Tell how things stand, without waking anything."""
        ...

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last ``tail`` log lines (None: all there are), then with ``follow`` new ones."""
        ...

    def endpoint(self) -> Endpoint:
        """Return the address and key of what is served; raises :class:`NotReady` where nothing is."""
        ...

    def sleeps(self) -> bool:
        """Tell whether nothing runs and a request would start a server."""
        ...

    def stop(self, progress: Progress | None = None) -> None:
        """End what runs and keep what is stored."""
        ...

    def rest(self, progress: Progress | None = None) -> None:
        """End what runs, and let the next request start a server where the place can do that."""
        ...

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop, and delete what nbtoolkit put there; nothing else."""
        ...
