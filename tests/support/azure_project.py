"""A workspace whose app runs on the Azure double with the stub engine; nothing else is fake.

The SDK creates the resources as `provision()` would leave them, which is faster.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from azure.identity import EnvironmentCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import DeploySettings
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.target import AzureTarget
from tests.azure_double import AzureDouble
from tests.support.stub_deploy import StubProject

GROUP, REGION, ENVIRONMENT, APP = "rg-inference", "westus3", "env", "tones"
ACCOUNT, SHARE = "tonestore", "files"
BOOTSTRAP = Path(__file__).parents[2] / "infra" / "provision" / "bootstrap.py"
A100 = "Consumption-GPU-NC24-A100"


def probe(kind: str, path: str, period: int, failures: int) -> dict[str, Any]:
    """Return a probe as the template writes it."""
    http_get = {"path": path, "port": 7861}
    return {"type": kind, "httpGet": http_get, "periodSeconds": period, "failureThreshold": failures}


MakeProject = Callable[..., "AzureProject"]
"""The fixture ``make_project``: called with the keyword arguments of :class:`AzureProject`."""


class AzureProject(StubProject):
    """A stub project whose servers are processes of the double.

    ``gpu`` puts the app on an A100; the subscription has a quota of two.
    """

    target: AzureTarget

    def __init__(
        self,
        double: AzureDouble,
        folder: Path,
        *,
        gpu: bool = False,
        min_replicas: int = 0,
        max_replicas: int = 1,
    ) -> None:
        super().__init__(folder)
        self.double = double
        double.arm.groups.add(GROUP, REGION)
        credential = EnvironmentCredential()
        sdk = ContainerAppsAPIClient(credential, double.subscription, polling_interval=0.05)
        profile = A100 if gpu else "Consumption"
        self._create_environment(sdk, credential, profile)
        app = self._app(profile, min_replicas, max_replicas)
        created = sdk.container_apps.begin_create_or_update(GROUP, APP, app).result().as_dict()
        host = created["properties"]["configuration"]["ingress"]["fqdn"]
        self.names = ResourceNames(double.subscription, GROUP, ACCOUNT, SHARE, APP, f"https://{host}")
        self.names.write(self.workspace)
        sdk.close()
        credential.close()
        self.target = AzureTarget(self.workspace, Cloud.shared(), poll=0.2, capacity_seconds=6)

    def _create_environment(
        self, sdk: ContainerAppsAPIClient, credential: EnvironmentCredential, profile: str
    ) -> None:
        profiles = [{"name": "Consumption", "workloadProfileType": "Consumption"}]
        if profile != "Consumption":
            profiles.append({"name": profile, "workloadProfileType": profile})
        body = {"location": REGION, "properties": {"workloadProfiles": profiles}}
        created = sdk.managed_environments.begin_create_or_update(GROUP, ENVIRONMENT, body).result()
        self.environment_id = created.as_dict()["id"]
        storages = StorageManagementClient(credential, self.double.subscription, polling_interval=0.05)
        account = {"location": REGION, "sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "properties": {}}
        storages.storage_accounts.begin_create(GROUP, ACCOUNT, account).result()
        storages.file_shares.create(GROUP, ACCOUNT, SHARE, {"properties": {"shareQuota": 1024}})
        self.account_key = storages.storage_accounts.list_keys(GROUP, ACCOUNT).as_dict()["keys"][0]["value"]
        storages.close()
        file = {"accountName": ACCOUNT, "accountKey": self.account_key, "shareName": SHARE}
        storage = {"properties": {"azureFile": {**file, "accessMode": "ReadWrite"}}}
        sdk.managed_environments_storages.create_or_update(GROUP, ENVIRONMENT, "share", storage)

    def _app(self, profile: str, min_replicas: int, max_replicas: int) -> dict[str, Any]:
        key = {"name": "nbtoolkit-api-key", "value": f"nbt-{secrets.token_hex(16)}"}
        values = {"NBTOOLKIT_MOUNT": "/mount", "NBTOOLKIT_PORT": "7860", "NBTOOLKIT_PROBE_PORT": "7861"}
        env: list[dict[str, str]] = [{"name": name, "value": value} for name, value in values.items()]
        container = {
            "name": "inference",
            "image": "some/image",
            "command": ["python3", "-u", "-c", BOOTSTRAP.read_text(encoding="utf-8")],
            "env": [*env, {"name": "NBTOOLKIT_API_KEY", "secretRef": key["name"]}],
            "resources": {"cpu": 24, "memory": "220Gi"} if profile == A100 else {"cpu": 4, "memory": "8Gi"},
            "probes": [
                probe("Startup", "/health", 10, 10),
                probe("Liveness", "/health", 10, 6),
                probe("Readiness", "/ready", 5, 3),
            ],
            "volumeMounts": [{"volumeName": "share", "mountPath": "/mount"}],
        }
        volume = {"name": "share", "storageType": "AzureFile", "storageName": "share"}
        template = {
            "containers": [container],
            "scale": {"minReplicas": min_replicas, "maxReplicas": max_replicas, "cooldownPeriod": 900},
            "volumes": [{**volume, "mountOptions": "actimeo=1,closetimeo=0,mfsymlinks,nobrl"}],
            "terminationGracePeriodSeconds": 60,
        }
        ingress = {"external": True, "targetPort": 7860, "transport": "auto"}
        properties = {
            "environmentId": self.environment_id,
            "workloadProfileName": profile,
            "configuration": {"activeRevisionsMode": "Single", "ingress": ingress, "secrets": [key]},
            "template": template,
        }
        return {"location": REGION, "properties": properties}

    @property
    def share(self) -> Path:
        """The folder with the file share's content."""
        return self.double.files.folder(ACCOUNT, SHARE)

    def adapter(self, says: str, *, proven: bool = True, proven_as: str = "", **config: Any) -> Path:
        """Write an adapter and its report, unless there is one that answers with this word."""
        folder = self.workspace.root / "adapters" / says
        if not folder.exists():
            super().adapter(says, proven=proven, proven_as=proven_as, **config)
        return folder

    def settings(self, tone: Path | str | None, **more: Any) -> DeploySettings:
        """Return settings that deploy one adapter under the name ``tone`` to Azure, without wheels."""
        return super().settings(tone, **{"target": "azure", "wheels_lock": "none", **more})

    def arm_writes(self) -> list[str]:
        """Return the writing requests to ARM since :meth:`forget_requests`."""
        reads = ("listsecrets", "listkeys", "getauthtoken", "checknameavailability")
        return [
            f"{seen.method} {seen.path}"
            for seen in list(self.double.requests)
            if seen.host == "management.azure.com"
            and seen.method != "GET"
            and not seen.path.lower().endswith(reads)
        ]

    def forget_requests(self) -> None:
        """Clear the list of requests."""
        self.double.requests.clear()
