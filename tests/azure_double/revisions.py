"""Revisions: an immutable template and its replicas."""

from __future__ import annotations

import copy
import datetime
import secrets
import string
import time
from typing import TYPE_CHECKING, Any

from .replicas import LETTERS, Replica

if TYPE_CHECKING:
    from .app_platform import Platform
    from .hosted_app import HostedApp

ALPHABET = string.ascii_lowercase + string.digits


class Revision:
    """One revision of an app."""

    def __init__(self, platform: Platform, app: HostedApp, suffix: str, template: dict[str, Any]) -> None:
        self.platform = platform
        self.app = app
        self.suffix = suffix
        self.name = f"{app.name}--{suffix}"
        self.hash = "".join(secrets.choice(LETTERS) for _ in range(10))
        self.template = copy.deepcopy(template)
        self.created = datetime.datetime.now(datetime.UTC)
        self.active = True
        self.provisioned = False
        """Whether it was ready once."""
        self.error = ""
        self.replicas: list[Replica] = []
        self._waited = 0.0
        self._seen = time.monotonic()

    @property
    def fqdn(self) -> str:
        return f"{self.name}.{self.app.domain}" if self.app.ingress else ""

    @property
    def minimum(self) -> int:
        return (self.template.get("scale") or {}).get("minReplicas") or 0

    @property
    def maximum(self) -> int:
        return (self.template.get("scale") or {}).get("maxReplicas") or 10

    @property
    def cooldown(self) -> float:
        """Azure seconds without a request until the last replica ends."""
        return (self.template.get("scale") or {}).get("cooldownPeriod") or 300

    def living(self) -> list[Replica]:
        """Return the replicas that are not ending."""
        return [replica for replica in self.replicas if not replica.ending]

    def ready(self) -> list[Replica]:
        """Replicas that the ingress may use."""
        return [replica for replica in self.living() if replica.ready]

    def scale(self, count: int) -> None:
        """Scale to this number of replicas; the newest end first."""
        self.replicas = [replica for replica in self.replicas if not replica.gone]
        living = self.living()
        for replica in living[count:][::-1]:
            replica.end()
        for _ in range(count - len(living)):
            self.replicas.append(Replica(self.platform, self.app, self).start())

    def restart(self) -> None:
        """Replace every replica; the new ones take the place of the old."""
        count = len(self.living())
        self.scale(0)
        self.scale(count)

    def activation_seconds(self) -> float:
        """Real seconds spent on becoming ready; they do not run on while the app is stopped."""
        now = time.monotonic()
        self._waited += min(now - self._seen, 0.5)
        self._seen = now
        return self._waited

    def reset_activation(self) -> None:
        """Reset the error and the activation time."""
        self.error = ""
        self._waited = 0.0

    @property
    def running_state(self) -> str:
        if self.error:
            return "ActivationFailed"
        if not self.active:
            return "Deprovisioning" if self.replicas else "Stopped"
        if self.app.stopped:
            return "Stopped"
        if not self.provisioned:
            return "Activating"
        living = self.living()
        if not living:
            return "ScaledToZero"
        return "Running" if any(replica.ready for replica in living) else "Degraded"

    def body(self) -> dict[str, Any]:
        """Return the body of a GET."""
        app = self.app
        template = copy.deepcopy(self.template)
        for container in template["containers"]:
            container.pop("imageType", None)
            container.setdefault("probes", [])
            (container.get("resources") or {}).pop("ephemeralStorage", None)
        template["revisionSuffix"] = None
        for name, default in (("cooldownPeriod", 300), ("pollingInterval", 30)):
            if template["scale"][name] == default:
                template["scale"][name] = None
        properties: dict[str, Any] = {
            "createdTime": self.created.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
            "fqdn": self.fqdn,
            "template": template,
            "active": self.active,
            "replicas": len([replica for replica in self.replicas if not replica.gone]),
            "trafficWeight": 100 if app.serving is self else 0,
            "healthState": "Unhealthy" if self.error else ("Healthy" if self.ready() else "None"),
            "provisioningState": "Failed"
            if self.error
            else ("Provisioned" if self.provisioned else "Provisioning"),
            "runningState": self.running_state,
        }
        if self.error:
            properties["provisioningError"] = self.error
        return {
            "id": f"{app.arm_id}/revisions/{self.name}",
            "name": self.name,
            "type": "Microsoft.App/containerapps/revisions",
            "properties": properties,
        }

    def replica(self, name: str) -> Replica | None:
        """The replica of this name, while ARM lists it."""
        return next((one for one in self.replicas if one.name == name and not one.gone), None)


def replica_body(replica: Replica) -> dict[str, Any]:
    """Return the body of a GET of a replica."""
    app, revision = replica.app, replica.revision
    name = replica.template["name"]
    place = f"{app.stream_path}/revisions/{revision.name}/replicas/{replica.name}"
    host = f"{app.region}.azurecontainerapps.dev"
    running = replica.phase == "Running"
    assigning = replica.phase == "AssigningReplica"
    return {
        "id": f"{app.arm_id}/revisions/{revision.name}/replicas/{replica.name}",
        "name": replica.name,
        "type": "Microsoft.App/containerapps/revisions/replicas",
        "properties": {
            "createdTime": replica.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "runningState": "Running" if running else "NotRunning",
            "runningStateDetails": "AssigningReplica" if assigning else "",
            "containers": [
                {
                    "name": name,
                    "containerId": replica.container_id,
                    "ready": replica.ready,
                    "started": replica.started,
                    "restartCount": replica.restarts,
                    "runningState": "Running" if running else "Terminated" if replica.ending else "Waiting",
                    "runningStateDetails": replica.details,
                    "logStreamEndpoint": f"https://{host}{place}/containers/{name}/logstream",
                    "execEndpoint": f"wss://{host}{place}/containers/{name}/exec",
                    "debugEndpoint": f"wss://{host}{place}/debug?targetContainer={name}",
                }
            ],
            "initContainers": [],
        },
    }


def random_suffix() -> str:
    """Return a random suffix, as Container Apps adds to unnamed revisions."""
    return "".join(secrets.choice(ALPHABET) for _ in range(7))
