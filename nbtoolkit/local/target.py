"""The local target: this machine serves releases."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from copy import copy
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import ValidationError

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NotInStore, NotReady
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.local import log
from nbtoolkit.local.launch_spec import REPLICA, ensure_api_key, launch_spec_for
from nbtoolkit.local.server import STOP_TIMEOUT, LocalServer, describe_server, end_of, terminate_at_exit
from nbtoolkit.local.server_state import HOST, ProcessId, ServerRecord, StateFiles, listening_ports
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases.builder import fixed_port
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.notebook import is_headless
from nbtoolkit.workspace import Workspace

PORT = 7860
"""The default port, as of the AI Toolkit's own server."""


class LocalTarget:
    """Serve on this machine: the folder ``root/share`` is the share, one process is the container.

    ``root`` defaults to ``.nbtoolkit/local`` of the workspace. Each start tries ``port`` first, by default
    that of the last start, initially 7860; a running server keeps its port until a restart. The server
    survives an interrupt and a kernel restart (not on Windows). With ``keep=False`` it ends with this
    process, even if that is killed; this is the default only in a headless notebook, as under papermill.
    ``env`` is added to the server's environment, which contains no secret of this process.
    ``stop_timeout`` is in seconds, ``log_bytes`` the size at which the log is rotated.
    """

    def __init__(
        self,
        workspace: Workspace | None = None,
        root: Path | str | None = None,
        keep: bool | None = None,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        stop_timeout: float = STOP_TIMEOUT,
        log_bytes: int = log.FILE_BYTES,
    ) -> None:
        self.workspace = workspace or Workspace.find()
        self.root = self.workspace.path(root) if root is not None else self.workspace.state / "local"
        self.keep = not is_headless() if keep is None else keep
        self._port = port
        self._env = dict(env or {})
        self._log_bytes = log_bytes
        self._files = StateFiles(self.root)
        self._server = LocalServer(self._files, stop_timeout=stop_timeout)

    def __repr__(self) -> str:
        return f"LocalTarget({str(self.root)!r})"

    def __str__(self) -> str:
        return f"this machine, {self.root}"

    @property
    def name(self) -> str:
        """``local``, with a short hash if the root is not the workspace's default."""
        if self.root == self.workspace.root / ".nbtoolkit" / "local":
            return "local"
        return f"local-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @property
    def share(self) -> LocalFolder:
        """The folder that the server mounts."""
        return LocalFolder(self._files.share)

    @property
    def mount(self) -> Path:
        """The share's folder on this machine."""
        return self._files.share

    poll = 0.05
    """Seconds between two polls of the heartbeat."""

    def wheels(self, lock: str | None = None) -> None:
        """Return None: the server runs with the packages of this Python."""
        del lock

    def base_path(self, base: Base) -> str:
        """Return a base's path for the server: relative to the share if it is on it, else absolute."""
        with suppress(ValueError):
            return base.path.relative_to(self.mount).as_posix()
        return str(base.path)

    def kept(self, keep: bool) -> LocalTarget:
        """Return the same target with another ``keep``."""
        target = copy(self)
        target.keep = keep
        return target

    def check_memory(
        self, base: Base, quantization: Literal["none", "nf4"], *, override: bool, progress: Progress
    ) -> None:
        """Check nothing: the memory that this machine has left is not known in advance."""
        del base, quantization, override
        progress.check()

    def provision(self, progress: Progress | None = None, *, custom_server: bool = False) -> None:
        """Create the share's folder and the key, if they are missing."""
        del custom_server  # it needs both as well
        (progress or SILENT()).check()
        for folder in (self._files.share, self._files.work):
            folder.mkdir(parents=True, exist_ok=True)
        ensure_api_key(self._files.key)

    def has_start_commands(self) -> bool:
        """Return False: the start commands are in the release."""
        return False

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Accept every restart: on this machine one server ends before the next one starts."""
        del allow_downtime
        (progress or SILENT()).check()

    def activate(
        self,
        release: Release,
        *,
        restart: bool,
        allow_downtime: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Start the server if none runs; restart it with ``restart`` or if its code differs.

        Returns once it listens (a custom server: once it was started); raises :class:`ServerFailed` with the
        last log lines.
        """
        del allow_downtime  # a restart takes only seconds here
        progress = progress or SILENT()
        self.provision(progress)
        with self._exclusive(progress):
            record = self._server.running()
            self._update_owners(fresh=record is None)
            reusable = record if record and not restart and record.code == release.code.sha256 else None
            if reusable and self._server.listens(reusable, progress):  # its own start may be cancelled
                return
            last = self._server.record()
            self._server.stop(progress)
            with suppress(FileNotFoundError):  # it must not count as the new server's
                (self._files.share / share_layout.heartbeat_path(REPLICA)).unlink()
            progress.phase("Starting the server on this machine")
            spec_for = launch_spec_for(self._files, release, self._env, self._log_bytes, progress)
            port = fixed_port(release.code.commands) or self._port or (last.port if last else PORT)
            self._server.start(spec_for, port, progress)

    def replicas(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the name of the only replica while the server runs."""
        del refresh  # the process table is always current
        return (REPLICA,) if self._server.running() else ()

    def heartbeat(self, replica: str = REPLICA) -> Heartbeat | None:
        """Return the last heartbeat since the server's start, None before the first one."""
        try:
            return Heartbeat.model_validate_json(self.share.read(share_layout.heartbeat_path(replica)))
        except (NotInStore, ValidationError):
            return None

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed`, with the last log lines, if the server died."""
        self._server.raise_if_dead()

    def not_ready_reason(self) -> str:
        """Return an empty text: the heartbeat has all information."""
        return ""

    def responds(self) -> bool:
        """Return whether the custom server answers HTTP requests, with any status."""
        return self.endpoint().reachable()

    def status(self) -> TargetStatus:
        """Return the status from the process table and the share; sends no request to the server."""
        record = self._server.record()
        if record is None or not record.running:
            return TargetStatus(str(self), *end_of(record))
        heartbeat = self.heartbeat() if record.kind == "nbtoolkit" else None
        state, summary, facts = describe_server(record, heartbeat)
        release = heartbeat.release if heartbeat else None
        return TargetStatus(str(self), state, summary, self._url(record), release, facts)

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last ``tail`` log lines (None: all), then with ``follow`` new ones.

        Following ends when the server does, or when ``progress`` is cancelled.
        """
        if not follow:
            return iter(log.tail(self._files.log, tail))
        return log.follow(self._files.log, tail, self._server.writes_log, progress or SILENT())

    def endpoint(self) -> Endpoint:
        """Return the URL and key of the running server; raises :class:`NotReady` if none runs."""
        record = self._server.running()
        if record is None:
            raise NotReady(
                f"No server runs for {self.root}.",
                next_step="deploy() starts one; status() shows how the last one ended",
                reason="no server runs",
            )
        heartbeat = self.heartbeat() if record.kind == "nbtoolkit" else None
        release = heartbeat.release if heartbeat else None
        return Endpoint(self._url(record), ensure_api_key(self._files.key), release=release)

    @property
    def key_location(self) -> str:
        """The path of the key file, as text."""
        return f"file {self._files.key}"

    def startup_phases(self) -> str:
        """Return an empty text: a start takes only seconds, and the log has its phases."""
        return ""

    def is_asleep(self) -> bool:
        """Return False: no request starts a server on this machine."""
        return False

    def scale_to_zero(self, progress: Progress | None = None) -> None:
        """Stop the server, as :meth:`stop` does."""
        self.stop(progress)

    def stop(self, progress: Progress | None = None) -> None:
        """Stop the server; running requests may finish within 35 s. Stored files stay."""
        progress = progress or SILENT()
        if not self.root.is_dir():
            return
        with self._exclusive(progress):
            self._server.stop(progress)

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop the server and delete only what nbtoolkit put here: releases, adapters, key, log.

        ``models/``, ``model-cache/`` and ``inference/`` on the share are not touched.
        """
        progress = progress or SILENT()
        if not self.root.is_dir():
            return
        self.stop(progress)
        progress.phase("Deleting the served files")
        self.share.delete_folder(share_layout.ROOT)
        for folder in (self._files.work, self.root / "own-python"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self._files.all_files():
            path.unlink(missing_ok=True)
        for folder in (self._files.share, self.root):
            with suppress(OSError):  # not empty: the rest belongs to the user
                folder.rmdir()

    def _exclusive(self, progress: Progress) -> AbstractContextManager[None]:
        """Lock the root; waits while another notebook starts or stops its server."""
        return progress.hold(FileLock(self._files.lock, thread_local=False), interval=0.05)

    def _update_owners(self, *, fresh: bool) -> None:
        """Record the server's owners before it starts, so that a kill right after cannot orphan it."""
        recorded = [] if fresh else self._files.read_owners()
        kept = not fresh and not recorded  # a server whose owners have all died is ending, not kept
        owners = [owner for owner in recorded if owner.alive()]
        current = ProcessId.current()
        if self.keep:
            owners = []
        elif not kept and current not in owners:
            owners.append(current)
        self._files.write_owners(owners)
        if current in owners:
            terminate_at_exit(self._files)

    def _url(self, record: ServerRecord) -> str:
        port = record.port
        if record.kind == "own":  # its code may fix a port other than the requested one
            open_ports = listening_ports(record.server)
            if open_ports and port not in open_ports:
                port = min(open_ports)
        return f"http://{HOST}:{port}"
