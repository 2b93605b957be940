"""A workspace whose app runs on the Azure double with the stub engine; nothing else is faked.

The resources are put there with the SDK as `provision()` would leave them: tests of deploys shall be quick.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from azure.identity import EnvironmentCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.storage import StorageManagementClient

from nbtoolkit import DeploySettings, Workspace
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.target import AzureTarget
from tests.azure_double import AzureDouble
from tests.support.stub_deploy import adapter, base, report

GROUP, REGION, ENVIRONMENT, APP = "rg-inference", "westus3", "env", "tones"
ACCOUNT, SHARE = "tonestore", "files"
BOOTSTRAP = Path(__file__).parents[2] / "infra" / "provision" / "bootstrap.py"
A100 = "Consumption-GPU-NC24-A100"


def probe(kind: str, path: str, period: int, failures: int) -> dict[str, Any]:
    """Return a probe as the template writes it."""
    asked = {"path": path, "port": 7861}
    return {"type": kind, "httpGet": asked, "periodSeconds": period, "failureThreshold": failures}


class AzurePlace:
    """Settings, adapters and a target whose servers are the double's processes.

    ``gpu`` puts the app onto an A100, of which the subscription has two.
    """

    def __init__(
        self, double: AzureDouble, folder: Path, *, gpu: bool = False, least: int = 0, most: int = 1
    ) -> None:
        self.double = double
        (folder / "infra").mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace(folder)
        self.base = folder / "tiny"
        base(self.base)
        double.arm.groups.add(GROUP, REGION)
        credential = EnvironmentCredential()
        sdk = ContainerAppsAPIClient(credential, double.subscription, polling_interval=0.05)
        profile = A100 if gpu else "Consumption"
        self._environment(sdk, credential, profile)
        app = self._app(profile, least, most)
        made = sdk.container_apps.begin_create_or_update(GROUP, APP, app).result().as_dict()
        host = made["properties"]["configuration"]["ingress"]["fqdn"]
        self.place = ResourceNames(double.subscription, GROUP, ACCOUNT, SHARE, APP, f"https://{host}")
        self.place.write(self.workspace)
        sdk.close()
        credential.close()
        self.target = AzureTarget(self.workspace, Cloud.shared(), poll=0.2, capacity_seconds=6)

    def _environment(
        self, sdk: ContainerAppsAPIClient, credential: EnvironmentCredential, profile: str
    ) -> None:
        profiles = [{"name": "Consumption", "workloadProfileType": "Consumption"}]
        if profile != "Consumption":
            profiles.append({"name": profile, "workloadProfileType": profile})
        body = {"location": REGION, "properties": {"workloadProfiles": profiles}}
        made = sdk.managed_environments.begin_create_or_update(GROUP, ENVIRONMENT, body).result()
        self.environment_id = made.as_dict()["id"]
        storages = StorageManagementClient(credential, self.double.subscription, polling_interval=0.05)
        account = {"location": REGION, "sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "properties": {}}
        storages.storage_accounts.begin_create(GROUP, ACCOUNT, account).result()
        storages.file_shares.create(GROUP, ACCOUNT, SHARE, {"properties": {"shareQuota": 1024}})
        self.account_key = storages.storage_accounts.list_keys(GROUP, ACCOUNT).as_dict()["keys"][0]["value"]
        storages.close()
        file = {"accountName": ACCOUNT, "accountKey": self.account_key, "shareName": SHARE}
        storage = {"properties": {"azureFile": {**file, "accessMode": "ReadWrite"}}}
        sdk.managed_environments_storages.create_or_update(GROUP, ENVIRONMENT, "share", storage)

    def _app(self, profile: str, least: int, most: int) -> dict[str, Any]:
        key = {"name": "nbtoolkit-api-key", "value": f"nbt-{secrets.token_hex(16)}"}
        plain = {"NBTOOLKIT_MOUNT": "/mount", "NBTOOLKIT_PORT": "7860", "NBTOOLKIT_PROBE_PORT": "7861"}
        env: list[dict[str, str]] = [{"name": name, "value": value} for name, value in plain.items()]
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
            "scale": {"minReplicas": least, "maxReplicas": most, "cooldownPeriod": 900},
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
        """The folder that is the file share's content."""
        return self.double.files.folder(ACCOUNT, SHARE)

    def adapter(self, says: str, **knobs: Any) -> Path:
        """Write an adapter whose answers are its word, and its green report."""
        lie = knobs.pop("proven_as", says)
        folder = self.workspace.root / "adapters" / says
        if folder.exists():
            return folder
        adapter(folder, says, **knobs)
        report(self.workspace, folder, self.base, lie)
        return folder

    def settings(self, tone: Path | str, **more: Any) -> DeploySettings:
        """Deploy one adapter under the name ``tone``, with the packages of this Python."""
        given = {"adapters": {"tone": tone}, "base": "tiny", "timeout": 60, "wheels_lock": "none"}
        return DeploySettings(**{**given, "target": "azure", **more})

    def says(self) -> str:
        """Ask the endpoint who answers under ``tone``."""
        return self.target.endpoint().chat("hi", "tone", stream=False, max_tokens=1).strip()

    def arm_writes(self) -> list[str]:
        """Return the requests to ARM that change something, since :meth:`forget_requests`."""
        reads = ("listsecrets", "listkeys", "getauthtoken", "checknameavailability")
        return [
            f"{seen.method} {seen.path}"
            for seen in list(self.double.requests)
            if seen.host == "management.azure.com"
            and seen.method != "GET"
            and not seen.path.lower().endswith(reads)
        ]

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self.double.requests.clear()
