"""A replica from AssigningReplica to its end: GPU, image, mount, process, probes, restarts."""

from __future__ import annotations

import datetime
import secrets
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import probes
from .containers import MARK, Container, plan_launch
from .log_buffers import Buffer, Line
from .mounts import Mounted, MountFailed

if TYPE_CHECKING:
    from .app_platform import Platform
    from .hosted_app import HostedApp
    from .revisions import Revision

LETTERS = "bcdfghjklmnpqrstvwxz2456789"
BACKOFF = (10, 20, 40, 80, 160, 300)
"""Azure seconds between restarts of a container that keeps ending."""


class Replica:
    """One running copy of a revision, in its own thread; the template's first container is the process."""

    def __init__(self, platform: Platform, app: HostedApp, revision: Revision) -> None:
        self.platform = platform
        self.app = app
        self.revision = revision
        self.name = f"{revision.name}-{revision.hash}-{_letters(5)}"
        self.created = datetime.datetime.now(datetime.UTC)
        self.template: Mapping[str, Any] = revision.template["containers"][0]
        self.log: Buffer[Line] = Buffer()
        self.phase = "AssigningReplica"
        self.started = False
        self.ready = False
        self.restarts = 0
        self.container_id = ""
        self.details = ""
        self.container: Container | None = None
        self._folder = platform.root / "replicas" / self.name
        self._mounts: dict[str, Mounted] = {}
        self._clock = platform.double.clock
        self._ending = threading.Event()
        self._kill = False
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> Replica:
        self._thread.start()
        return self

    def end(self, *, kill: bool = False) -> None:
        """Remove the replica from the ingress and end its process; with `kill`, without a grace period."""
        self.ready = False
        self._kill = self._kill or kill
        self._ending.set()

    def join(self, seconds: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    @property
    def ending(self) -> bool:
        return self._ending.is_set()

    @property
    def gone(self) -> bool:
        return self._ending.is_set() and not self._thread.is_alive()

    @property
    def port(self) -> int | None:
        """The port of its process, if there is one."""
        return self.container.ports.get(self.app.target_port or 80) if self.container else None

    def _run(self) -> None:
        try:
            self._add_event(
                "Normal", "AssigningReplica", f"Replica '{self.name}' has been scheduled to run on a node."
            )
            while not self.platform.take_capacity(self):
                if self._ending.wait(0.02):
                    return
            self.phase = "Waiting"
            self._add_event("Normal", "SuccessfulCreate", f"Created replica '{self.name}'")
            if self._pull() and self._mount():
                self._run_container()
        except Exception as error:  # noqa: BLE001 - reported to the test, which fails
            self.platform.report_crash(error)
        finally:
            self.ready = self.started = False
            self.phase = "Terminated"
            if self.container:
                self.container.stop(self._grace)
                self.container = None
            for mounted in self._mounts.values():
                mounted.close()
            self.log.close()
            self.platform.release_capacity(self)

    def _pull(self) -> bool:
        image = self.template.get("image", "")
        self._add_event("Normal", "PullingImage", f"Pulling image '{image}'")
        if not self._sleep(self.platform.limits.pull_seconds):
            return False
        self._add_event(
            "Normal",
            "PulledImage",
            f'Successfully pulled image "{image}" in {self.platform.limits.pull_seconds:g}s. '
            "Image size: 32505856 bytes.",
        )
        return True

    def _mount(self) -> bool:
        volumes = {volume["name"]: volume for volume in self.revision.template.get("volumes") or []}
        for mount in self.template.get("volumeMounts") or []:
            volume = volumes[mount["volumeName"]]
            while mount["mountPath"] not in self._mounts:
                try:
                    share = self._source(volume) / (mount.get("subPath") or "")
                    self._mounts[mount["mountPath"]] = Mounted(
                        share,
                        self._folder / "volumes" / volume["name"],
                        volume.get("mountOptions"),
                        self._clock.real,
                    )
                except MountFailed as failed:
                    self._add_event(
                        "Warning",
                        "FailedMount",
                        f'MountVolume.SetUp failed for volume "{volume["name"]}" : {failed}',
                    )
                    if not self._sleep(5):
                        return False
        return True

    def _source(self, volume: Mapping[str, Any]) -> Path:
        if volume.get("storageType") == "AzureFile":
            return self.platform.open_share(self.app, volume["storageName"])
        folder = self._folder / "empty" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _run_container(self) -> None:
        """Start the container and restart it until the replica ends."""
        name = self.template["name"]
        while not self.ending:
            plan = plan_launch(
                self.template,
                secrets=self.app.secrets,
                mounts={path: mounted.folder for path, mounted in self._mounts.items()},
                target_port=self.app.target_port,
                platform=self._variables(),
                folder=self._folder,
                images=self.platform.images,
            )
            if self.platform.consume_crash(self.app):
                plan.argv = [sys.executable, "-c", "import sys; sys.exit('made to crash')"]
            self.platform.start_process_cleanup()
            self._add_event("Normal", "ContainerCreated", f"Created container '{name}'")
            container = Container(plan, self.log)
            self.container = container
            self.container_id = f"containerd://{secrets.token_hex(16)}"
            self.phase, self.details = "Running", f"Container started at: {_timestamp()}."
            self._add_event("Normal", "ContainerStarted", f"Started container '{name}'")
            unhealthy = self._watch(container)
            self.ready = self.started = False
            if self.ending:
                return
            if unhealthy:
                self._add_event(
                    "Warning",
                    "ContainerUnhealthy",
                    f"Container {name} failed {unhealthy} probe, will be restarted",
                )
                container.stop(self._grace)
            else:
                container.kill_all()
            reason = (
                "ProbeFailure" if unhealthy else ("ProcessExited" if container.exit_code else "Completed")
            )
            self._add_event(
                "Warning" if container.exit_code else "Normal",
                "ContainerTerminated",
                f"Container '{name}' was terminated with exit code '{container.exit_code}' "
                f"and reason '{reason}'.",
            )
            self.container = None
            self.restarts += 1
            self.phase, self.details = "Waiting", "CrashLoopBackOff"
            self._add_event("Warning", "ContainerBackOff", f"Persistent Failure to start container '{name}'")
            if not self._sleep(BACKOFF[min(self.restarts, len(BACKOFF)) - 1]):
                return

    def _watch(self, container: Container) -> str | None:
        """Probe until the process or the replica ends; return the kind of a probe that requires a restart."""
        wanted = probes.probes_of(self.template, self.app.target_port)
        watched = [probes.ProbeState(probe, self) for probe in wanted.values()]
        startup = next((one for one in watched if one.probe.kind == probes.STARTUP), None)
        if startup is None:
            self.started = True
        if probes.READINESS not in wanted:
            self.ready = self.started
        while not self._ending.is_set() and container.exit_code is None:
            for one in watched:
                if one is not startup and not self.started:
                    continue
                verdict = one.poll(container)
                if verdict is None:
                    continue
                if one is startup and verdict:
                    self.started = True
                    self.ready = probes.READINESS not in wanted
                    watched.remove(one)
                    break
                if one.probe.kind == probes.READINESS:
                    self.ready = verdict and not self.ending
                elif not verdict:
                    return one.probe.kind
            self._ending.wait(0.02)
        return None

    def probe_failed(self, message: str) -> None:
        """Record a failed probe."""
        self._add_event("Warning", "ProbeFailed", message)

    @property
    def _grace(self) -> float:
        if self._kill:
            return 0
        seconds = self.revision.template.get("terminationGracePeriodSeconds") or 30
        return max(self._clock.real(seconds), self.platform.limits.grace)

    def _variables(self) -> dict[str, str]:
        return {
            "CONTAINER_APP_NAME": self.app.name,
            "CONTAINER_APP_REVISION": self.revision.name,
            "CONTAINER_APP_REPLICA_NAME": self.name,
            "CONTAINER_APP_HOSTNAME": self.revision.fqdn,
            "CONTAINER_APP_ENV_DNS_SUFFIX": self.app.domain,
            MARK: f"{self.platform.mark}-{self.name}",
        }

    def _add_event(self, type: str, reason: str, message: str) -> None:
        self.platform.event(self.app, type, reason, message, self.revision.name, self.name)

    def _sleep(self, azure_seconds: float) -> bool:
        """Return whether the replica is still running after that time."""
        return not self._ending.wait(self._clock.real(azure_seconds))


def _letters(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))


def _timestamp() -> str:
    now = datetime.datetime.now(datetime.UTC)
    half = "AM" if now.hour < 12 else "PM"
    return f"{now.month}/{now.day}/{now.year} {now.hour % 12 or 12}:{now:%M:%S} {half}"
