"""A test server as a container of the double, and the SDK's calls for it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from azure.identity import EnvironmentCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient

from tests.azure_double import AzureDouble

GROUP, ENV, APP, REGION = "rg", "env", "app", "westus3"
PROGRAM = textwrap.dedent("""
    import json, os, signal, subprocess, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    mount, port = sys.argv[1], int(os.environ["NBTOOLKIT_PORT"])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    if os.environ.get("SLOW"): time.sleep(float(os.environ["SLOW"]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/die": os._exit(3)
            if self.path == "/ready" and os.environ.get("NEVER_READY"):
                return self.answer(503, b"not yet")
            if self.path == "/stream":
                self.send_response(200); self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for number in range(3):
                    self.wfile.write(b"data: %d\\n\\n" % number); self.wfile.flush(); time.sleep(0.3)
                return
            if self.path.startswith("/print"): print("said " + self.path, flush=True)
            names = sorted(os.listdir(mount)) if os.path.isdir(mount) else None
            answer_body = {"env": dict(os.environ), "names": names, "path": self.path}
            self.answer(200, json.dumps(answer_body).encode())

        def do_POST(self):
            self.answer(200, self.rfile.read(int(self.headers["content-length"])))

        def answer(self, status, content):
            self.send_response(status); self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args): pass

    print("listening", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
""")

PROBES = [
    {
        "type": "Startup",
        "httpGet": {"path": "/health", "port": 7860},
        "periodSeconds": 5,
        "failureThreshold": 10,
    },
    {"type": "Liveness", "httpGet": {"path": "/health", "port": 7860}, "periodSeconds": 10},
    {"type": "Readiness", "httpGet": {"path": "/ready", "port": 7860}, "periodSeconds": 5},
]


class Azure:
    """Calls of the double through the SDK and HTTP."""

    def __init__(self, double: AzureDouble) -> None:
        self.double = double
        self.apps = double.apps
        self.sdk = ContainerAppsAPIClient(EnvironmentCredential(), double.subscription, polling_interval=0.05)
        self.http = httpx.Client(timeout=20)
        self.environment_id = ""

    def environment(self, profiles: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        body = {"location": REGION, "properties": {"workloadProfiles": profiles or [CONSUMPTION]}}
        made = self.sdk.managed_environments.begin_create_or_update(GROUP, ENV, body).result().as_dict()
        self.environment_id = made["id"]
        return made

    def storage(self, share: str = "share", key: str | None = None) -> None:
        account = self.double.files.create_account("acct")
        self.double.files.create_share("acct", share)
        file = {
            "accountName": "acct",
            "accountKey": key or account.keys[0],
            "shareName": share,
            "accessMode": "ReadWrite",
        }
        self.sdk.managed_environments_storages.create_or_update(
            GROUP, ENV, "share", {"properties": {"azureFile": file}}
        )

    def body(self, **changes: Any) -> dict[str, Any]:
        env = [{"name": "NBTOOLKIT_PORT", "value": "7860"}, *changes.pop("env", [])]
        container: dict[str, Any] = {
            "name": "inference",
            "image": "some/image",
            "command": ["python3", "-u", "-c", PROGRAM, "/mount"],
            "env": env,
            "resources": {"cpu": 1, "memory": "2Gi"},
            "probes": PROBES,
        }
        template: dict[str, Any] = {
            "containers": [container],
            "scale": {"minReplicas": changes.pop("least", 1), "maxReplicas": 3},
            "revisionSuffix": changes.pop("suffix", None),
        }
        options = changes.pop("mount_options", None)
        if changes.pop("mounted", False):
            container["volumeMounts"] = [{"volumeName": "share", "mountPath": "/mount"}]
            template["volumes"] = [
                {"name": "share", "storageType": "AzureFile", "storageName": "share", "mountOptions": options}
            ]
        ingress = {"external": True, "targetPort": 7860, "transport": "auto", **changes.pop("ingress", {})}
        configuration = {
            "activeRevisionsMode": "Single",
            "ingress": ingress,
            "secrets": changes.pop("secrets", []),
        }
        properties = {
            "environmentId": self.environment_id,
            "configuration": configuration,
            "template": template,
            "workloadProfileName": changes.pop("profile", "Consumption"),
        }
        assert not changes
        return {"location": REGION, "properties": properties}

    def put(self, **changes: Any) -> dict[str, Any]:
        return (
            self.sdk.container_apps.begin_create_or_update(GROUP, APP, self.body(**changes))
            .result()
            .as_dict()
        )

    def patch(self, properties: dict[str, Any]) -> None:
        self.sdk.container_apps.begin_update(GROUP, APP, {"properties": properties}).result()

    def get(self) -> dict[str, Any]:
        return self.sdk.container_apps.get(GROUP, APP).as_dict()["properties"]

    def revisions(self) -> dict[str, dict[str, Any]]:
        listed = self.sdk.container_apps_revisions.list_revisions(GROUP, APP)
        return {one["name"]: one["properties"] for one in (revision.as_dict() for revision in listed)}

    def replicas(self, revision: str | None = None) -> list[dict[str, Any]]:
        name = revision or self.get()["latestReadyRevisionName"]
        listed = self.sdk.container_apps_revision_replicas.list_replicas(GROUP, APP, name)
        return [one.as_dict() for one in listed.value]

    @property
    def url(self) -> str:
        return f"https://{self.get()['configuration']['ingress']['fqdn']}"

    def ask(self, path: str = "/") -> dict[str, Any]:
        answer = self.http.get(self.url + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, url: str, **query: Any) -> httpx.Request:
        token = self.sdk.container_apps.get_auth_token(GROUP, APP).properties.token
        return self.http.build_request("GET", url, params=query, headers={"authorization": f"Bearer {token}"})

    def read(self, url: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.http.send(self.stream(url, **query))
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def events(self) -> list[tuple[str, str]]:
        found = self.read(self.get()["eventStreamEndpoint"], tailLines=300)
        return [(record["Reason"], record["Msg"]) for record in found]


CONSUMPTION = {"name": "Consumption", "workloadProfileType": "Consumption"}
GPU = {"name": "gpu", "workloadProfileType": "Consumption-GPU-NC24-A100"}


@pytest.fixture(name="azure")
def azure_fixture(azure_double: AzureDouble) -> Iterator[Azure]:
    azure_double.arm.groups.add(GROUP, REGION)
    azure = Azure(azure_double)
    yield azure
    azure.http.close()
