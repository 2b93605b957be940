"""The platform of the container apps: reconciles every app, and injects failures for tests."""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .containers import processes_with_mark
from .gpu_quota import Quota, profiles_of
from .hosted_app import HostedApp
from .log_buffers import Buffer
from .mounts import NO_SUCH_SHARE, PERMISSION_DENIED, MountFailed
from .process_cleanup import ProcessCleanup
from .resource_ids import ResourceId
from .stream_tokens import StreamTokens
from .system_events import Event
from .waiting import Limits

if TYPE_CHECKING:
    from .double import AzureDouble
    from .files import Files
    from .replicas import Replica

CIFS = "-t cifs -o file_mode=0777,dir_mode=0777,actimeo=30,mfsymlinks,nosharesock,<masked>"


class Platform:
    """`double.apps`: all running apps, GPU quota, system events, and failures for tests."""

    def __init__(self, double: AzureDouble) -> None:
        self.double = double
        self.root = double.root / "container-apps"
        self.limits = Limits()
        self.images: dict[str, Sequence[str]] = {}
        """The command of an image if the template has none; a hello server by default."""
        self.client_ip = "203.0.113.7"
        """The client address that the ingress reports."""
        self.mark = uuid.uuid4().hex
        self.lock = threading.RLock()
        self.events: Buffer[Event] = Buffer()
        self.quota = Quota(self._environments)
        self.log_redirect: str | None = None
        """Host to which log streams send their readers, None for no redirect."""
        self.log_generation = 0
        self.stream_tokens = StreamTokens()
        self._apps: dict[str, HostedApp] = {}
        self._requests: dict[str, int] = {}
        self._held: dict[str, bool] = {}
        self._crashes: dict[str, int] = {}
        self._process_cleanup = ProcessCleanup(self.mark)
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="container apps", daemon=True)
        self._thread.start()
        double.on_close(self.close)

    # used by tests

    def app(self, name: str) -> HostedApp:
        """The app of this name (or id)."""
        with self.lock:
            for key, app in self._apps.items():
                if key == name.lower() or app.name == name:
                    return app
        raise KeyError(
            f"there is no container app {name!r}; there are {[app.name for app in self._apps.values()]}"
        )

    def ingress_requests(self, name: str) -> int:
        """How many requests went to the app's host names, revisions' too."""
        return self._requests.get(name, 0)

    def scale_to_zero(self, name: str, seconds: float = 15) -> None:
        """Scale to zero now and wait for the end of the process; the next request starts a replica."""
        app = self.app(name)
        with self.lock:
            app.scale_to_zero()
        self.wait_for(lambda: not app.replicas(), seconds, f"{name} to be at zero")

    def hold(self, name: str, stuck: bool = True) -> None:
        """Keep new replicas in AssigningReplica, as without capacity; the app need not exist yet."""
        self._held[name] = stuck

    def crash(self, name: str, times: int = 1_000_000) -> None:
        """Let the next starts of the app's container fail; running ones continue."""
        self._crashes[name] = times

    def kill(self, name: str) -> None:
        """Kill the processes of the app, as if out of memory."""
        for replica in self.app(name).living():
            if replica.container:
                psutil.Process(replica.container.pid).kill()

    def cut_log_streams(self) -> None:
        """Interrupt all open log and event streams."""
        self.log_generation += 1

    def processes(self) -> list[psutil.Process]:
        """Return all running processes of all containers."""
        return processes_with_mark(self.mark)

    def wait_for(self, done: Any, seconds: float, what: str) -> None:
        """Wait until `done()`; raises TimeoutError after real seconds."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what}")
            time.sleep(0.01)

    # used by the parts of the platform

    @property
    def deadline(self) -> float:
        """Real seconds until a revision that is not ready fails."""
        return max(self.double.clock.real(self.limits.deadline_seconds), self.limits.deadline)

    def get_or_create_app(self, id: ResourceId, environment: dict[str, Any]) -> HostedApp:
        """Return the running side of an app; the first PUT creates it."""
        with self.lock:
            return self._apps.setdefault(id.key, HostedApp(self, id, environment))

    def require_app(self, id: ResourceId) -> HostedApp:
        """The running side of an app that exists."""
        self.double.arm.require(id)
        return self._apps[id.key]

    def apps(self) -> list[HostedApp]:
        with self.lock:
            return list(self._apps.values())

    def drop(self, app: HostedApp) -> None:
        """End all replicas of a deleted app and remove it."""
        app.deleted = True
        self.wait_for(lambda: not app.replicas(), 60, f"the replicas of {app.name} to end")
        with self.lock:
            self._apps.pop(app.id.key, None)

    def count_request(self, app: str) -> None:
        with self.lock:
            self._requests[app] = self._requests.get(app, 0) + 1

    def event(
        self, app: HostedApp, type: str, reason: str, message: str, revision: str | None, replica: str | None
    ) -> None:
        """Note a system event."""
        self.events.add(
            Event(
                time.time(),
                type,
                app.name,
                app.arm_id,
                app.environment_id,
                revision,
                replica,
                message,
                reason,
            )
        )

    def take_capacity(self, replica: Replica) -> bool:
        """Assign a machine to a replica; return False if there is none."""
        app = replica.app
        if self._held.get(app.name):
            return False
        return self.quota.take(replica.name, app.region, self.profile(app), app.environment_id.lower())

    def consume_crash(self, app: HostedApp) -> bool:
        """Return whether this start of the app's container must fail."""
        with self.lock:
            left = self._crashes.get(app.name, 0)
            self._crashes[app.name] = max(0, left - 1)
        return left > 0

    def profile(self, app: HostedApp) -> Mapping[str, Any]:
        """The workload profile on which an app runs."""
        environment = self.double.arm.get(app.environment_id)
        name = app.body["properties"].get("workloadProfileName")
        for profile in profiles_of(environment) if environment else ():
            if profile["name"] == name:
                return profile
        return {"name": "Consumption", "workloadProfileType": "Consumption"}

    def start_process_cleanup(self) -> None:
        """Start the process that ends the containers if this process is killed."""
        self._process_cleanup.watch()

    def release_capacity(self, replica: Replica) -> None:
        """Release the GPU of an ended replica."""
        self.quota.release_gpu(replica.name)

    def open_share(self, app: HostedApp, storage_name: str) -> Path:
        """The folder of the share behind an environment's storage; MountFailed as the mount command would."""
        storage = self.double.arm.get(f"{app.environment_id}/storages/{storage_name}")
        file = (storage or {}).get("properties", {}).get("azureFile")
        if not file:
            raise MountFailed(NO_SUCH_SHARE)
        name = f"//{file['accountName']}.file.core.windows.net/{file['shareName']}"
        prefix = (
            f"mount {name} failed with mount failed: exit status 32\nMounting command: mount\n"
            f"Mounting arguments: {CIFS}\nOutput: "
        )
        files: Files = self.double.files
        account = files.accounts.get(file["accountName"])
        if account is None or account.firewall or not account.shared_key_access:
            raise MountFailed(prefix + PERMISSION_DENIED)
        if file.get("accountKey") not in account.keys:
            raise MountFailed(prefix + PERMISSION_DENIED)
        if files.share(file["accountName"], file["shareName"]) is None:
            raise MountFailed(prefix + NO_SUCH_SHARE)
        return files.folder(file["accountName"], file["shareName"])

    def report_crash(self, error: BaseException) -> None:
        """Report an error of a platform thread, which fails the test."""
        self.double.crashes.append("".join(traceback.format_exception(error)))

    def close(self) -> None:
        """End every process and thread."""
        self._closed.set()
        self._thread.join()
        replicas = [
            replica for app in self.apps() for revision in app.revisions for replica in revision.replicas
        ]
        for replica in replicas:
            replica.end(kill=True)
        for replica in replicas:
            replica.join(10)
        self._process_cleanup.close()
        self.events.close()

    def _run(self) -> None:
        while not self._closed.wait(0.02):
            for app in self.apps():
                try:
                    with self.lock:
                        app.reconcile()
                except Exception as error:  # noqa: BLE001 - reported to the test, which fails
                    self.report_crash(error)

    def _environments(self, region: str) -> list[Mapping[str, Any]]:
        with self.double.arm.lock:
            bodies = list(self.double.arm.resources.values())
        wanted = [
            body
            for body in bodies
            if str(body.get("type", "")).lower() == "microsoft.app/managedenvironments"
        ]
        return [body for body in wanted if body["properties"]["defaultDomain"].split(".")[1] == region]
