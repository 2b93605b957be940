"""Azure as a target: Azure Files is the share, replicas of a container app are the servers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.capacity.gpu_profiles import GpuProfile
from nbtoolkit.azure.capacity.memory_fit import Quantization, check_memory
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import App
from nbtoolkit.azure.container_apps.endpoint import API_KEY, Address
from nbtoolkit.azure.container_apps.managed_app import check_ours, is_ours
from nbtoolkit.azure.container_apps.replica_poller import AppPoller, AppSnapshot
from nbtoolkit.azure.portal_urls import portal_url
from nbtoolkit.azure.startup.activation import Activation, machine_of
from nbtoolkit.azure.startup.heartbeats import Heartbeats, is_going
from nbtoolkit.azure.startup.monitor import CAPACITY_SECONDS, StartupMonitor
from nbtoolkit.azure.startup.status import describe
from nbtoolkit.azure.startup.timeline import Timeline
from nbtoolkit.azure.startup.wake_up import WakeUpPoller, ask
from nbtoolkit.container_runtime.share_wheels import SharedWheels, resolve_wheels
from nbtoolkit.endpoint import Endpoint
from nbtoolkit.filestore import FileStore
from nbtoolkit.models import share_models as in_place
from nbtoolkit.models.base_model import Base
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.serving import share_layout as share
from nbtoolkit.serving.release import Release
from nbtoolkit.serving.share_layout import Heartbeat
from nbtoolkit.target import TargetStatus
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

ARM_EVERY = 5
"""So many looks at the heartbeats for one at ARM."""
_ANSWER_SECONDS = 10.0


class AzureTarget:
    """Serve on Azure: what ``infra/inference.config.json`` of the workspace names.

    Making one asks nothing of Azure and starts nothing. ``cloud`` is the shared sign-in by default, ``store``
    the file share, and ``poll`` the seconds between two looks at the heartbeats. Replicas are known from
    those and from ARM; only activating, proving and using the endpoint ever send a request to the app
    itself, which wakes it.
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
        self._starting: StartupMonitor | None = None

    def __repr__(self) -> str:
        return f"AzureTarget({str(self.workspace.root)!r})"

    def __str__(self) -> str:
        return f"Azure, app {self.provisioned.app} in {self.provisioned.resource_group}"

    @cached_property
    def provisioned(self) -> ResourceNames:
        """The names in the config file; raises :class:`InvalidSettings` where they are missing."""
        return ResourceNames.read(self.workspace)

    @cached_property
    def app(self) -> App:
        """The container app through ARM."""
        return App(self.cloud, self.provisioned)

    @property
    def share(self) -> FileStore:
        """The file share that every replica mounts."""
        if self._store is None:
            from nbtoolkit.azure.files.share import AzureShare

            self._store = AzureShare(self.cloud, self.provisioned)
        return self._store

    @cached_property
    def _beats(self) -> Heartbeats:
        return Heartbeats(self.share)

    @cached_property
    def _watch(self) -> AppPoller:
        return AppPoller(self.app, ARM_EVERY * self.poll)

    @cached_property
    def _address(self) -> Address:
        return Address(self.app)

    @property
    def key_location(self) -> str:
        """Where the key is, in words."""
        return f"secret {API_KEY} of the app {self.provisioned.app}"

    @property
    def timeline(self) -> Timeline | None:
        """How far the replicas of the last start are, phase by phase; None where nothing was started."""
        return self._starting.timeline if self._starting else None

    def wheels(self, lock: str | None = None) -> SharedWheels | None:
        """Return the packages of the container's image, or of a lock of your own; None for ``"none"``."""
        return resolve_wheels(lock, self.workspace)

    def base_path(self, base: Base) -> str:
        """Return the folder on the share that a deploy sends the base model to, once."""
        return share.base_path(base.sha256)

    def adapters_on_share(self) -> list[str]:
        """Return every adapter below ``models/`` on the share, as a setting names it: ``/mount/…``."""
        return in_place.list_adapters(self.share)

    def bases_on_share(self) -> list[str]:
        """Return every base model below ``model-cache/`` on the share, as a setting names it."""
        return in_place.list_bases(self.share)

    def provision(self, progress: Progress | None = None, *, custom_server: bool = False) -> None:
        """See that what :func:`nbtoolkit.provision` makes is there, and for our server runs our template.

        Asks ARM nothing while replicas of ours give fresh signs of life.
        """
        if not run_cancellable(progress, self._beats.all_ready):
            state = run_cancellable(progress, self.app.get)
            if not custom_server:
                check_ours(state)

    def has_start_commands(self) -> bool:
        """Tell whether the app's template is not ours, and so has start commands of its own."""
        return not is_ours(self.app.get())

    def machine(self) -> GpuProfile | None:
        """Return the machine that the app runs on, None for one that is not known; two requests."""
        return machine_of(self.app)

    def check_memory(
        self, base: Base, quantization: Quantization, *, override: bool, progress: Progress
    ) -> None:
        """Raise :class:`InvalidSettings` if the base does not fit on the GPU; two requests to ARM."""
        hardware = run_cancellable(progress, self.machine)
        if hardware is not None:
            check_memory(base, hardware, quantization, override=override, progress=progress)

    def check_restart(self, *, allow_downtime: bool, progress: Progress | None = None) -> None:
        """Raise :class:`QuotaShort` where a new server has no GPU, and no downtime is allowed."""
        now = run_cancellable(progress, lambda: Activation(self.app, self._watch))
        now.way(restart=True, allow_downtime=allow_downtime, progress=SILENT())

    def activate(
        self,
        release: Release,
        *,
        restart: bool,
        allow_downtime: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Let replicas come to the published release: by themselves, a new revision, a restart or a wake-up.

        Where only adapters changed and replicas give fresh signs of life, nothing is asked of Azure. Returns
        once Azure was told; raises :class:`QuotaShort`, :class:`AzureFailed`, :class:`InvalidSettings`.
        """
        progress = progress or SILENT()
        self._end_start()
        if not restart and run_cancellable(progress, self._beats.all_ready):
            return
        now = run_cancellable(progress, lambda: Activation(self.app, self._watch))
        if release.code.kind == "nbtoolkit":
            check_ours(now.state)
        way = now.way(restart=restart, allow_downtime=allow_downtime, progress=progress)
        starting = self._begin(now.look, replaced=way in ("restart", "revision", "downtime"))
        now.go(way, release, progress, lambda: starting.tell(progress))
        self._watch.forget()
        url = run_cancellable(progress, self._address.url)
        starting.wake(WakeUpPoller(url, ours=release.code.kind == "nbtoolkit"))
        self._beats.sweep({replica.name for replica in now.look.living})

    def replicas(self, *, refresh: bool = False) -> tuple[str, ...]:
        """Return the replicas whose container runs; without ``refresh`` those that freshly say they serve.

        One that is still being started reads the newest pointer by itself, and gets no request before.
        """
        if not refresh and (ready := self._beats.all_ready()):
            return ready
        names = [replica.name for replica in self._watch.look(fresh=refresh).running]
        return tuple(sorted(name for name in names if not is_going(self._beats.of(name))))

    def heartbeat(self, replica: str) -> Heartbeat | None:
        """Return what a replica last said of itself, None where nothing yet."""
        return self._beats.of(replica)

    def check_alive(self) -> None:
        """Raise :class:`ServerFailed` where ARM's states say that waiting is useless, with the cause."""
        if self._starting is None:
            if self._beats.all_ready():
                return  # a hot swap: the replicas themselves tell
            # who should have swapped went away meanwhile
            self._begin(AppSnapshot(), replaced=False).wake(WakeUpPoller(self._address.url()))
        if self._starting:
            self._starting.check()

    def not_ready_reason(self) -> str:
        """Return the phases of the replicas that do not serve yet, with Azure's reasons."""
        return self._starting.doing() if self._starting else ""

    def startup_phases(self) -> str:
        """Return the phases of the last start with their seconds, a line for each replica of several."""
        lines = str(self.timeline or "").splitlines()
        return lines[0].partition(": ")[2] if len(lines) == 1 else "\n".join(lines)

    def responds(self) -> bool:
        """Tell whether the user's own server answers, as the newest revision runs it."""
        app = self.app.get()
        look = self._watch.look()
        fresh = app.latest_ready_revision == app.latest_revision
        old = self._starting.replaced if self._starting else frozenset[str]()
        if not fresh or not any(one.ready and one.name not in old for one in look.of_latest()):
            return False
        kind, _ = ask(self.cloud.http(), f"{self._address.url()}/", _ANSWER_SECONDS)
        return kind == "server"

    def status(self) -> TargetStatus:
        """Tell how things stand; asks ARM and the share, never the app, so it wakes nothing."""
        app, look = self.app.get(), self._watch.look(fresh=True)
        beats = {replica.name: self._beats.of(replica.name) for replica in look.living}
        return describe(str(self), self.provisioned, app, look, beats, self.share)

    def logs(
        self, follow: bool = False, tail: int | None = 200, progress: Progress | None = None
    ) -> Iterator[str]:
        """Yield the last lines of all replicas, and of Azure about them; wakes nothing.

        Azure keeps 300 lines for this; older ones are in Log Analytics.
        """
        from nbtoolkit.azure.logs.stream import merged

        return (str(line) for line in merged(self.app, follow=follow, tail=tail, progress=progress))

    def endpoint(self) -> Endpoint:
        """Return the app's address, and its key out of the app's secrets; using it wakes the app."""
        if self._starting:
            self._starting.served()
        return self._address.endpoint()

    def is_asleep(self) -> bool:
        """Tell whether nothing runs and a request would start a replica."""
        return not self._watch.look(fresh=True).living and not self.app.get().stopped

    def stop(self, progress: Progress | None = None) -> None:
        """Stop the app: nothing runs or is billed per second, and no request wakes it. Again: no change."""
        progress = progress or SILENT()
        self._end_start()
        if not run_cancellable(progress, self.app.get).stopped:
            progress.phase(f"Stopping the app {self.provisioned.app}")
            self.app.stop(progress)
        self._watch.forget()

    def scale_to_zero(self, progress: Progress | None = None) -> None:
        """Send the app to sleep: nothing runs, and the next request starts a replica."""
        self.stop(progress)
        self.app.start(progress)
        self._watch.forget()

    def destroy(self, progress: Progress | None = None) -> None:
        """Stop the app and delete what nbtoolkit put on the share; the resources stay: see teardown().

        ``models/``, ``model-cache/`` and ``inference/`` on the share are not touched.
        """
        progress = progress or SILENT()
        self.stop(progress)
        progress.phase("Deleting what was served")
        self.share.delete_folder(share.ROOT, lambda _: progress.check())

    def portal(self) -> str:
        """Return the app's page in the Azure portal."""
        return portal_url(self.provisioned.app_id)

    def _begin(self, before: AppSnapshot, *, replaced: bool) -> StartupMonitor:
        self._starting = StartupMonitor(
            self.app,
            self._watch,
            self._beats,
            before=before,
            replaced=replaced,
            capacity_seconds=self._capacity_seconds,
        )
        return self._starting

    def _end_start(self) -> None:
        if self._starting:
            self._starting.end()
        self._starting = None
