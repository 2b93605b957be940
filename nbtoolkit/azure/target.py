"""Azure as a target: Azure Files is the share, replicas of a container app are the servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property

from pydantic import SecretStr

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.memory_fit import Quantization, check_memory
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.managed_app import check_managed, is_managed
from nbtoolkit.azure.container_apps.models import API_KEY_SECRET
from nbtoolkit.azure.container_apps.replica_poller import AppPoller
from nbtoolkit.azure.container_apps.revisions import AppSnapshot
from nbtoolkit.azure.startup.activation import Activation, app_hardware
from nbtoolkit.azure.startup.heartbeats import Heartbeats, is_ending
from nbtoolkit.azure.startup.monitor import CAPACITY_SECONDS, StartupMonitor
from nbtoolkit.azure.startup.pollers import WakeUpPoller, probe
from nbtoolkit.azure.startup.status import build_status
from nbtoolkit.azure.startup.timeline import Timeline
from nbtoolkit.container_runtime.wheel_download import SharedWheels, resolve_wheels
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.errors import NotReady
from nbtoolkit.filestore import FileStore
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.serving import share_layout as share
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

HEARTBEAT_POLLS_PER_ARM_POLL = 5
_KEY_MAX_AGE = 60.0
"""Seconds for which the endpoint's key is cached; it may be replaced at any time."""


class AzureTarget:
    """Serve on Azure, with the resources that ``infra/inference.config.json`` of the workspace names.

    The constructor sends no request. ``cloud`` is the shared sign-in by default, ``store`` the file share,
    and ``poll`` the seconds between two reads of the heartbeats. Replicas are known from heartbeats and ARM;
    only activation, proof and use of the endpoint send requests to the app, which wake it.

        target = AzureTarget()
        print(target.status())
        for line in target.logs(follow=True): ...
    """

    name = "azure"

    def __init__(
        self,
        workspace: Workspace | None = None,
        cloud: Cloud | None = None,
        *,
        store: FileStore | None = None,
        poll: float = 1.0,
        capacity_seconds: float = CAPACITY_SECONDS,
    ) -> None:
        self.workspace = workspace or Workspace.find()
        self.cloud = cloud or Cloud.shared()
        self.poll = poll
        self._store = store
        self._capacity_seconds = capacity_seconds
        self._monitor: StartupMonitor | None = None
        self._key = SecretStr(""), float("-inf")
        """The cached key of the endpoint, and when it was read."""

    def __repr__(self) -> str:
        return f"AzureTarget({str(self.workspace.root)!r})"

    def __str__(self) -> str:
        return f"Azure, app {self.provisioned.app} in {self.provisioned.resource_group}"

    @cached_property
    def provisioned(self) -> ResourceNames:
        """The names in the config file; raises :class:`InvalidSettings` if they are missing."""
        return ResourceNames.read(self.workspace)

    @cached_property
    def app(self) -> ContainerApp:
        """The container app through ARM."""
        return ContainerApp(self.cloud, self.provisioned)

    @property
    def share(self) -> FileStore:
        """The file share that every replica mounts."""
        if self._store is None:
            from nbtoolkit.azure.files.share import AzureShare

            self._store = AzureShare(self.cloud, self.provisioned)
        return self._store

    @cached_property
    def _heartbeats(self) -> Heartbeats:
        return Heartbeats(self.share)

    @cached_property
    def _poller(self) -> AppPoller:
        return AppPoller(self.app, HEARTBEAT_POLLS_PER_ARM_POLL * self.poll)

    @property
    def key_location(self) -> str:
        """The location of the endpoint's key, as text."""
        return f"secret {API_KEY_SECRET} of the app {self.provisioned.app}"

    @property
    def timeline(self) -> Timeline | None:
        """The phases of the replicas of the last start; None without a start."""
        return self._monitor.timeline if self._monitor else None

    def wheels(self, lock: str | None = None) -> SharedWheels | None:
        """Return the packages of the container image's lock, or of another lock; None for ``"none"``."""
        return resolve_wheels(lock, self.workspace)

    def base_path(self, base: Base) -> str:
        """Return the folder on the share to which a deploy uploads the base model, once."""
        return share.base_path(base.sha256)

    def provision(self, progress: Progress | None = None, *, custom_server: bool = False) -> None:
        """Check that the app exists and, for nbtoolkit's server, runs nbtoolkit's template.

        Sends no request to ARM while all fresh heartbeats are ready.
        """
        if not run_cancellable(progress, self._heartbeats.ready_replicas):
            state = run_cancellable(progress, self.app.get)
            if not custom_server:
                check_managed(state)

    def has_start_commands(self) -> bool:
        """Return whether the app has another template, with its own start commands. One request."""
        return not is_managed(self.app.get())

    def machine(self) -> GpuProfile | None:
        """Return the machine that the app runs on, None if it is unknown; two requests."""
        return app_hardware(self.app)

    def check_memory(
        self, base: Base, quantization: Quantization, *, override: bool, progress: Progress
    ) -> None:
        """Raise :class:`InvalidSettings` if the base does not fit into GPU memory; two requests."""
        hardware = run_cancellable(progress, self.machine)
        if hardware is not None:
            check_memory(base, hardware, quantization, override=override, progress=progress)

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Raise :class:`QuotaShort` if a new server has no GPU, and downtime is not allowed."""
        activation = run_cancellable(progress, lambda: Activation(self.app, self._poller))
        activation.choose_method(restart=True, allow_downtime=allow_downtime, progress=SILENT())

    def activate(
        self,
        release: Release,
        *,
        restart: bool,
        allow_downtime: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Bring replicas to the published release: a hot swap, a new revision, a restart or a wake-up.

        If only adapters changed and fresh heartbeats are ready, no request is sent. Returns when Azure has
        accepted the change; raises :class:`QuotaShort`, :class:`AzureFailed`, :class:`InvalidSettings`.
        """
        progress = progress or SILENT()
        self._stop_monitor()
        if not restart and run_cancellable(progress, self._heartbeats.ready_replicas):
            return
        activation = run_cancellable(progress, lambda: Activation(self.app, self._poller))
        managed = release.code.kind == "nbtoolkit"
        if managed:
            check_managed(activation.state)
        method = activation.choose_method(restart=restart, allow_downtime=allow_downtime, progress=progress)
        before = activation.snapshot
        monitor = self._start_monitor(before, replaced=method in ("restart", "revision", "downtime"))
        activation.run(method, release, progress, lambda: monitor.report(progress))
        self._poller.invalidate()
        url = run_cancellable(progress, self.app.url)
        monitor.send_wake_ups(WakeUpPoller(url, managed=managed))
        self._heartbeats.delete_stale({replica.name for replica in before.live})

    def replicas(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the replicas with a running container; without ``refresh`` those with a ready heartbeat.

        A replica that is still starting reads the newest pointer when it starts its server.
        """
        if not refresh and (ready := self._heartbeats.ready_replicas()):
            return ready
        names = [replica.name for replica in self._poller.snapshot(fresh=refresh).running]
        return tuple(sorted(name for name in names if not is_ending(self._heartbeats.read(name))))

    def heartbeat(self, replica: str) -> Heartbeat | None:
        """Return the last heartbeat of a replica, None without one."""
        return self._heartbeats.read(replica)

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed` with the cause if the replicas cannot become ready."""
        if self._monitor is None:
            if self._heartbeats.ready_replicas():
                return  # a hot swap: the heartbeats report its result
            # the replicas that were to swap have ended since
            self._start_monitor(AppSnapshot(), replaced=False).send_wake_ups(WakeUpPoller(self.app.url()))
        if self._monitor:
            self._monitor.check()

    def not_ready_reason(self) -> str:
        """Return the phases of the replicas that do not serve yet, with Azure's reasons."""
        return self._monitor.summary() if self._monitor else ""

    def startup_phases(self) -> str:
        """Return the phases of the last start with their seconds, one line for each of several replicas."""
        lines = str(self.timeline or "").splitlines()
        return lines[0].partition(": ")[2] if len(lines) == 1 else "\n".join(lines)

    def responds(self) -> bool:
        """Return whether the custom server of the newest revision responds to HTTP."""
        app = self.app.get()
        snapshot = self._poller.snapshot()
        current = app.latest_ready_revision == app.latest_revision
        replaced = self._monitor.replaced if self._monitor else frozenset[str]()
        if not current or not any(one.ready and one.name not in replaced for one in snapshot.latest_replicas):
            return False
        responder, _ = probe(self.cloud.http(), f"{self.app.url()}/", timeout=10)
        return responder == "server"

    def status(self) -> TargetStatus:
        """Return the status from ARM and the share; sends no request to the app, so it wakes nothing."""
        app, snapshot = self.app.get(), self._poller.snapshot(fresh=True)
        heartbeats = {replica.name: self._heartbeats.read(replica.name) for replica in snapshot.live}
        return build_status(str(self), self.provisioned, app, snapshot, heartbeats, self.share)

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last log lines of all replicas, and Azure's events about them; wakes nothing.

        Azure keeps 300 lines for this; older ones are in Log Analytics.
        """
        from nbtoolkit.azure.logs.stream import app_log

        return (str(line) for line in app_log(self.app, follow=follow, tail=tail, progress=progress))

    def endpoint(self) -> Endpoint:
        """Return the app's URL, and its key from the app's secrets; at most one request a minute.

        The key is empty for a custom server without one. Using the endpoint wakes the app. Raises
        :class:`NotReady` if nbtoolkit's server has no key.
        """
        if self._monitor:
            self._monitor.finish()
        key, read_at = self._key
        if time.monotonic() - read_at > _KEY_MAX_AGE:
            key = SecretStr(self.app.secrets().get(API_KEY_SECRET) or "")
            if not key and is_managed(self.app.get()):
                raise NotReady(
                    f"The app {self.provisioned.app} has no secret {API_KEY_SECRET}: its endpoint cannot be "
                    "used.",
                    next_step="run provision(): it makes one",
                    reason="no key",
                )
            self._key = key, time.monotonic()
        return Endpoint(self.app.url(), key)

    def is_asleep(self) -> bool:
        """Return whether no replica runs and a request would start one."""
        return not self._poller.snapshot(fresh=True).live and not self.app.get().stopped

    def stop(self, progress: Progress | None = None) -> None:
        """Stop the app, unless it is stopped: no replica runs or is billed, and no request wakes it."""
        progress = progress or SILENT()
        self._stop_monitor()
        if not run_cancellable(progress, self.app.get).stopped:
            progress.phase(f"Stopping the app {self.provisioned.app}")
            self.app.stop(progress)
        self._poller.invalidate()

    def scale_to_zero(self, progress: Progress | None = None) -> None:
        """Scale the app to zero: no replica runs, and the next request starts one."""
        self.stop(progress)
        self.app.start(progress)
        self._poller.invalidate()

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop the app and delete nbtoolkit's folder on the share; the resources stay: see teardown().

        ``models/``, ``model-cache/`` and ``inference/`` on the share are not touched.
        """
        progress = progress or SILENT()
        self.stop(progress)
        progress.phase("Deleting what was served")
        self.share.delete_folder(share.ROOT, lambda _: progress.check())

    def _start_monitor(self, before: AppSnapshot, *, replaced: bool) -> StartupMonitor:
        self._monitor = StartupMonitor(
            self.app,
            self._poller,
            self._heartbeats,
            before=before,
            replaced=replaced,
            capacity_seconds=self._capacity_seconds,
        )
        return self._monitor

    def _stop_monitor(self) -> None:
        if self._monitor:
            self._monitor.stop()
        self._monitor = None
