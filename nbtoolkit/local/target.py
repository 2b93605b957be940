"""This machine as a target."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NotInStore, NotReady
from nbtoolkit.filestore import LocalFolder
from nbtoolkit.local import log
from nbtoolkit.local.environment import HOST, ensure_api_key, listening_ports
from nbtoolkit.local.launch_spec import REPLICA, launch_spec_for
from nbtoolkit.local.processes import ProcessId
from nbtoolkit.local.server import LocalServer, terminate_at_exit
from nbtoolkit.local.state_files import ServerRecord, StateFiles
from nbtoolkit.local.status import describe_server
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.releases.start_commands import fixed_port
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.notebook import is_headless
from nbtoolkit.workspace import Workspace

PORT = 7860
"""What the AI Toolkit's own server listens on."""


class LocalTarget:
    """Serve on this machine: the folder ``root/share`` is the share, one process is the container.

    ``root`` is ``.nbtoolkit/local`` of the workspace by default. Each start tries ``port`` first, by default
    the last start's, at first 7860; a running server keeps its own until it is started anew. The server
    survives ■ and a kernel restart (not on Windows). With ``keep=False`` it ends with this process, however
    that ends; by default only where a notebook runs headless, as by papermill. ``env`` is added to the
    server's environment, which holds no secret of this process.
    """

    def __init__(
        self,
        workspace: Workspace | None = None,
        root: Path | str | None = None,
        keep: bool | None = None,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.workspace = workspace or Workspace.find()
        self.root = self.workspace.path(root) if root is not None else self.workspace.state / "local"
        self.keep = not is_headless() if keep is None else keep
        self._port = port
        self._env = dict(env or {})
        self._files = StateFiles(self.root)
        self._server = LocalServer(self._files)

    def __repr__(self) -> str:
        return f"LocalTarget({str(self.root)!r})"

    def __str__(self) -> str:
        return f"this machine, {self.root}"

    @property
    def name(self) -> str:
        """``local``, with a short hash where the root is not the workspace's own."""
        if self.root == self.workspace.root / ".nbtoolkit" / "local":
            return "local"
        return f"local-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"

    @property
    def share(self) -> LocalFolder:
        """The folder that the server mounts."""
        return LocalFolder(self._files.share)

    @property
    def mount(self) -> Path:
        """Where the share's folder lies on this machine."""
        return self._files.share

    poll = 0.05
    """Seconds between two looks at the heartbeat."""

    def wheels(self, lock: str | None = None) -> None:
        """Return none: the server runs with the packages of this Python."""
        del lock

    def base_path(self, base: Base) -> str:
        """Return a base as the server names it: what lies on the share relative to it, else absolute."""
        with suppress(ValueError):
            return base.path.relative_to(self.mount).as_posix()
        return str(base.path)

    def kept(self, keep: bool) -> LocalTarget:
        """Return the same target with another ``keep``."""
        return LocalTarget(self.workspace, self.root, keep, port=self._port, env=self._env)

    def check_memory(
        self, base: Base, quantization: Literal["none", "nf4"], *, override: bool, progress: Progress
    ) -> None:
        """Check nothing: the memory that this machine has left is not known in advance."""
        del base, quantization, override
        progress.check()

    def provision(self, progress: Progress | None = None, *, custom_server: bool = False) -> None:
        """Make the share's folder and the key; again changes nothing."""
        del custom_server  # it gets both as well
        (progress or SILENT()).check()
        for folder in (self._files.share, self._files.work):
            folder.mkdir(parents=True, exist_ok=True)
        ensure_api_key(self._files.key)

    def has_start_commands(self) -> bool:
        """Tell that only the release says how the user's own server starts."""
        return False

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Find nothing to object to: on this machine one server ends before the next one starts."""
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
        """Start the server where none runs; start it anew with ``restart`` or where its code is another.

        Returns once it listens (the user's own: once it was started); raises :class:`ServerFailed` with the
        last log lines.
        """
        del allow_downtime  # a few seconds of it are always allowed here
        progress = progress or SILENT()
        self.provision(progress)
        with self._alone(progress):
            record = self._server.running()
            self._settle_owners(fresh=record is None)
            if record and not restart and record.code == release.code.sha256:
                return
            last = self._server.record()
            self._server.stop(progress)
            with suppress(FileNotFoundError):  # the old server's must not be taken for the new one's
                (self._files.share / share_layout.heartbeat_path(REPLICA)).unlink()
            progress.phase("Starting the server on this machine")
            order_for = launch_spec_for(self._files, release, self._env, progress)
            asked = fixed_port(release.code.commands) or self._port
            port = asked or (last.port if last else PORT)
            self._server.start(order_for, port, progress)

    def replicas(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the one replica's name while the server runs."""
        del refresh  # the process table never lies
        return (REPLICA,) if self._server.running() else ()

    def heartbeat(self, replica: str = REPLICA) -> Heartbeat | None:
        """Return what the server last said of itself since it started, None where nothing yet."""
        try:
            return Heartbeat.model_validate_json(self.share.read(share_layout.heartbeat_path(replica)))
        except (NotInStore, ValidationError):
            return None

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed`, with the last log lines, where the server died."""
        self._server.raise_if_dead()

    def not_ready_reason(self) -> str:
        """Know nothing beyond the server's own heartbeat."""
        return ""

    def responds(self) -> bool:
        """Tell whether the user's own server answers HTTP at all, whatever it says."""
        return self.endpoint().reachable()

    def status(self) -> TargetStatus:
        """Tell how things stand; asks the process table and the share, never the server."""
        record = self._server.record()
        if record is None or not record.running:
            return describe_server(str(self), record, None, None, open_port=False)
        url, listens = self._url(record), bool(listening_ports(record.server))
        return describe_server(str(self), record, self.heartbeat(), url, open_port=listens)

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last ``tail`` log lines (None: all there are), then with ``follow`` new ones.

        Following ends when the server does, or when ``progress`` is cancelled.
        """
        if not follow:
            return iter(log.tail(self._files.log, tail))
        return log.follow(
            self._files.log, tail, lambda: self._server.running() is not None, progress or SILENT()
        )

    def endpoint(self) -> Endpoint:
        """Return the address and key of the running server; raises :class:`NotReady` where none runs."""
        record = self._server.running()
        if record is None:
            raise NotReady(
                f"No server runs for {self.root}.",
                next_step="deploy() starts one; status() says how the last one ended",
                reason="no server runs",
            )
        heartbeat = self.heartbeat() if record.kind == "nbtoolkit" else None
        release = heartbeat.release if heartbeat else None
        return Endpoint(self._url(record), ensure_api_key(self._files.key), release=release)

    @property
    def key_location(self) -> str:
        """Where the key is, in words."""
        return f"file {self._files.key}"

    def startup_phases(self) -> str:
        """Tell nothing: a start takes seconds here, and the log has them."""
        return ""

    def is_asleep(self) -> bool:
        """Tell that no request starts a server on this machine."""
        return False

    def scale_to_zero(self, progress: Progress | None = None) -> None:
        """End the server, as :meth:`stop` does."""
        self.stop(progress)

    def stop(self, progress: Progress | None = None) -> None:
        """End the server; running answers may finish, at most 35 s. What is stored stays."""
        progress = progress or SILENT()
        if not self.root.is_dir():
            return
        with self._alone(progress):
            self._server.stop(progress)

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop the server and delete what nbtoolkit put here: releases, adapters, key, log.

        ``models/``, ``model-cache/`` and ``inference/`` on the share are not touched.
        """
        progress = progress or SILENT()
        if not self.root.is_dir():
            return
        self.stop(progress)
        progress.phase("Deleting what was served")
        self.share.delete_folder(share_layout.ROOT)
        for folder in (self._files.work, self.root / "own-python"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self._files.all_files():
            path.unlink(missing_ok=True)
        for folder in (self._files.share, self.root):
            with suppress(OSError):  # not empty: what lies there is the user's
                folder.rmdir()

    @contextmanager
    def _alone(self, progress: Progress) -> Generator[None]:
        """Wait until no other notebook starts or stops the server of this root."""
        lock = FileLock(self._files.lock, thread_local=False)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                progress.sleep(0.05)
        try:
            yield
        finally:
            lock.release()

    def _settle_owners(self, *, fresh: bool) -> None:
        """Write down with whom the server ends, before it starts: a kill right after must not orphan it."""
        known = [] if fresh else self._files.read_owners()
        kept = not fresh and not known  # one whose owners have all died is about to end, not kept
        owners = [one for one in known if one.alive()]
        me = ProcessId.current()
        if self.keep:
            owners = []
        elif not kept and me not in owners:
            owners.append(me)
        self._files.write_owners(owners)
        if me in owners:
            terminate_at_exit(self._files)

    def _url(self, record: ServerRecord) -> str:
        port = record.port
        if record.kind == "own":  # it may listen where its code says instead of where it was told
            open_ports = listening_ports(record.server)
            if open_ports and port not in open_ports:
                port = min(open_ports)
        return f"http://{HOST}:{port}"
