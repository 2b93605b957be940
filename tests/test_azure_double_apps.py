"""The double's container apps, driven by the real SDK and by HTTP, with real processes as containers."""

from __future__ import annotations

import json
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
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
                self.send_response(200); self.send_header("content-type", "text/event-stream"); self.end_headers()
                for number in range(3):
                    self.wfile.write(b"data: %d\\n\\n" % number); self.wfile.flush(); time.sleep(0.3)
                return
            if self.path.startswith("/print"): print("said " + self.path, flush=True)
            names = sorted(os.listdir(mount)) if os.path.isdir(mount) else None
            self.answer(200, json.dumps({"env": dict(os.environ), "names": names, "path": self.path}).encode())

        def do_POST(self):
            self.answer(200, self.rfile.read(int(self.headers["content-length"])))

        def answer(self, status, content):
            self.send_response(status); self.send_header("content-length", str(len(content))); self.end_headers()
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
    """What the tests do to the double: through the SDK and HTTP."""

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


@pytest.fixture
def azure(azure_double: AzureDouble) -> Iterator[Azure]:
    azure_double.arm.groups.add(GROUP, REGION)
    azure = Azure(azure_double)
    yield azure
    azure.http.close()


def until(true: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.03)
    return found


def test_from_environment_to_answer(azure: Azure) -> None:
    """An app answers on its host, with its share, its secrets and nothing of this process's environment."""
    made = azure.environment()
    assert made["location"] == "West US 3"
    assert made["properties"]["provisioningState"] == "Succeeded"
    azure.storage()
    (azure.double.files.folder("acct", "share") / "hello.txt").write_text("hello")
    app = azure.put(
        mounted=True,
        mount_options="actimeo=1,nobrl",
        secrets=[{"name": "api-key", "value": "canary"}],
        env=[{"name": "API_KEY", "secretRef": "api-key"}],
    )
    assert app["properties"]["provisioningState"] == "Succeeded"
    assert app["properties"]["latestReadyRevisionName"] == app["properties"]["latestRevisionName"]
    assert "canary" not in json.dumps(app)
    seen = azure.ask()
    assert seen["names"] == ["hello.txt"]
    assert seen["env"]["API_KEY"] == "canary"
    assert seen["env"]["CONTAINER_APP_REVISION"] == app["properties"]["latestRevisionName"]
    assert not [
        name for name in seen["env"] if name.startswith("AZURE_CLIENT") or name.lower() == "https_proxy"
    ]
    assert azure.apps.ingress_requests(APP) == 1
    assert {one.name: one.value for one in azure.sdk.container_apps.list_secrets(GROUP, APP).value} == {
        "api-key": "canary"
    }


def test_statuses_and_logs_do_not_touch_the_host(azure: Azure) -> None:
    azure.environment()
    azure.put(mounted=False)
    [replica] = azure.replicas()
    container = replica["properties"]["containers"][0]
    assert (replica["properties"]["runningState"], container["ready"], container["restartCount"]) == (
        "Running",
        True,
        0,
    )
    records = until(
        lambda: [r for r in [azure.read(container["logStreamEndpoint"], tailLines=20)] if len(r) > 2]
    )[0]
    assert records[0]["Log"].startswith("Connecting to the container 'inference'")
    assert records[1]["Log"].startswith("Successfully Connected to container: 'inference'")
    assert records[2]["Log"] == "F listening"
    reasons = [reason for reason, _ in azure.events()]
    wanted = [
        "AssigningReplica",
        "SuccessfulCreate",
        "PullingImage",
        "PulledImage",
        "ContainerCreated",
        "ContainerStarted",
    ]
    assert [reason for reason in reasons if reason in wanted] == wanted
    assert azure.apps.ingress_requests(APP) == 0


def test_log_stream_follows_redirects_is_cut_and_asks_for_its_token(azure: Azure) -> None:
    azure.environment()
    azure.put()
    url = azure.replicas()[0]["properties"]["containers"][0]["logStreamEndpoint"]
    assert azure.http.get(url).status_code == 401
    with pytest.raises(httpx.RemoteProtocolError):
        follow(azure, url, "/print/one")
    azure.apps.log_redirect = "logs.westus3.azurecontainerapps.dev"
    moved = azure.http.send(azure.stream(url))
    assert moved.status_code == 302
    assert moved.headers["location"].startswith("https://logs.westus3.azurecontainerapps.dev/subscriptions/")


def follow(azure: Azure, url: str, path: str) -> None:
    """Follow a log, cause a line, see it, and let the stream be cut."""
    answer = azure.http.send(azure.stream(url, follow="true", output="text", tailLines=0), stream=True)
    lines = answer.iter_lines()
    assert "Connecting" in next(lines)
    assert "Successfully" in next(lines)
    azure.ask(path)
    assert next(lines).endswith(f"F said {path}")
    azure.apps.cut_log_streams()
    next(lines)


def test_update_switches_only_when_the_new_revision_is_ready(azure: Azure) -> None:
    azure.environment()
    first = azure.put()["properties"]["latestRevisionName"]
    azure.patch({"configuration": {"maxInactiveRevisions": 50}})
    assert list(azure.revisions()) == [first], "a change outside the template makes no revision"
    template = azure.body(env=[{"name": "SLOW", "value": "1"}], suffix="two")["properties"]["template"]
    azure.patch({"template": template})
    assert azure.get()["latestRevisionName"] == f"{APP}--two"
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == first, "the old one serves meanwhile"
    until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--two")
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == f"{APP}--two"
    until(lambda: not azure.revisions()[first]["active"] and azure.revisions()[first]["replicas"] == 0)
    with pytest.raises(HttpResponseError, match="already exists"):
        azure.patch({"template": azure.body(suffix=first.split("--")[1])["properties"]["template"]})


def test_revision_that_never_gets_ready_is_given_up(azure: Azure) -> None:
    azure.environment()
    first = azure.put()["properties"]["latestRevisionName"]
    azure.apps.limits.deadline = azure.apps.limits.deadline_seconds = 1
    azure.patch(
        {
            "template": azure.body(env=[{"name": "NEVER_READY", "value": "1"}], suffix="bad")["properties"][
                "template"
            ]
        }
    )
    bad = until(
        lambda: azure.revisions()[f"{APP}--bad"].get("provisioningError") and azure.revisions()[f"{APP}--bad"]
    )
    assert bad["provisioningError"] == "Deployment Progress Deadline Exceeded. 0/1 replicas ready."
    assert bad["healthState"] == "Unhealthy"
    assert azure.ask()["env"]["CONTAINER_APP_REVISION"] == first
    assert azure.get()["latestReadyRevisionName"] == first


def test_restart_stop_and_start(azure: Azure) -> None:
    azure.environment()
    revision = azure.put()["properties"]["latestRevisionName"]
    [old] = azure.replicas()
    azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, revision)
    until(
        lambda: (
            [one["name"] for one in azure.replicas()] not in ([], [old["name"]])
            and len(azure.replicas()) == 1
        )
    )
    azure.sdk.container_apps.begin_stop(GROUP, APP).result()
    assert azure.get()["runningStatus"] == "Stopped"
    assert not azure.apps.processes()
    assert azure.http.get(azure.url).status_code == 403
    with pytest.raises(HttpResponseError, match="not active"):
        azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, revision)
    azure.sdk.container_apps.begin_start(GROUP, APP).result()
    until(lambda: azure.replicas() and azure.replicas()[0]["properties"]["containers"][0]["ready"])
    azure.ask()


def test_zero_wakes_on_a_request_and_answers_504_meanwhile(azure: Azure) -> None:
    azure.environment()
    azure.put(least=0, env=[{"name": "SLOW", "value": "1.5"}])
    azure.apps.scale_to_zero(APP)
    assert azure.replicas() == []
    assert not azure.apps.processes()
    azure.apps.limits.hold_seconds = 20
    answer = azure.http.get(azure.url)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        504,
        "stream timeout",
        "text/plain",
    )
    assert until(lambda: azure.replicas())
    until(lambda: azure.http.get(azure.url).status_code == 200)
    azure.apps.limits.cooldown = 0
    azure.patch({"template": {"scale": {"minReplicas": 0, "maxReplicas": 1, "cooldownPeriod": 30}}})
    until(lambda: azure.get()["latestReadyRevisionName"].endswith("0000001"))
    until(lambda: not azure.replicas() and not azure.apps.processes())


def test_crash_loop_counts_restarts_and_says_why(azure: Azure) -> None:
    azure.environment()
    azure.put()
    azure.apps.crash(APP, times=2)
    azure.apps.kill(APP)
    until(lambda: azure.replicas()[0]["properties"]["containers"][0]["restartCount"] == 3)
    until(lambda: azure.replicas()[0]["properties"]["containers"][0]["ready"])
    said = azure.events()
    assert (
        "ContainerTerminated",
        "Container 'inference' was terminated with exit code '1' and reason 'ProcessExited'.",
    ) in said
    assert "ContainerBackOff" in [reason for reason, _ in said]
    assert "made to crash" in str(
        azure.read(azure.replicas()[0]["properties"]["containers"][0]["logStreamEndpoint"])
    )


def test_gpu_quota_bounds_replicas_and_environments(azure: Azure) -> None:
    """With room for one GPU a new revision waits in AssigningReplica; stop, update and start go through."""
    with pytest.raises(HttpResponseError, match="minimumCount"):
        azure.environment([{**GPU, "minimumCount": 0, "maximumCount": 1}])
    with pytest.raises(HttpResponseError, match="SubscriptionNCA100Gpus"):
        azure.environment(
            [{"name": "d", "workloadProfileType": "NC24-A100", "minimumCount": 0, "maximumCount": 1}]
        )
    azure.environment([CONSUMPTION, GPU])
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 1
    azure.put(profile="gpu")
    usages = {
        one["name"]["value"]: one for one in (usage.as_dict() for usage in azure.sdk.usages.list(REGION))
    }
    a100 = usages["SubscriptionConsumptionNCA100Gpus"]
    assert (a100["currentValue"], a100["limit"]) == (1, 1)
    assert a100["name"]["localizedValue"] == "Subscription Consumption NCA 100 Gpus"
    assert usages["ConsumptionNCA100GpusEnvCount"]["currentValue"] == 1
    azure.patch({"template": {"revisionSuffix": "two"}})
    [waiting] = until(lambda: azure.replicas(f"{APP}--two"))
    assert waiting["properties"]["runningStateDetails"] == "AssigningReplica"
    assert azure.get()["latestReadyRevisionName"] != f"{APP}--two"
    azure.sdk.container_apps.begin_stop(GROUP, APP).result()
    azure.sdk.container_apps.begin_start(GROUP, APP).result()
    until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--two")
    with pytest.raises(HttpResponseError, match="WorkloadProfileInUse"):
        azure.environment([CONSUMPTION])


def test_replica_without_capacity_fails_the_first_provision(azure: Azure) -> None:
    azure.environment([CONSUMPTION, GPU])
    azure.apps.quota.limits["SubscriptionConsumptionNCA100Gpus"] = 0
    azure.apps.limits.deadline = azure.apps.limits.deadline_seconds = 0.5
    with pytest.raises(HttpResponseError, match="Operation expired") as failed:
        azure.put(profile="gpu")
    assert failed.value.error is not None
    assert failed.value.error.code == "ContainerAppOperationError"
    assert azure.get()["provisioningState"] == "Failed"


def test_secrets_are_replaced_by_put_and_kept_by_patch(azure: Azure) -> None:
    azure.environment()
    reference = [{"name": "KEY", "secretRef": "key"}]
    with pytest.raises(HttpResponseError, match="ContainerAppSecretRefNotFound"):
        azure.put(env=reference)
    azure.put(env=reference, secrets=[{"name": "key", "value": "one"}, {"name": "other", "value": "x"}])
    azure.patch({"configuration": {"maxInactiveRevisions": 7}})

    def names() -> list[str | None]:
        return [one.name for one in azure.sdk.container_apps.list_secrets(GROUP, APP).value]

    assert names() == ["key", "other"]
    azure.patch(
        {"configuration": {"secrets": [{"name": "key", "value": "two"}, {"name": "other", "value": "x"}]}}
    )
    assert azure.ask()["env"]["KEY"] == "one", "a changed value needs a restart"
    [old] = azure.replicas()
    azure.sdk.container_apps_revisions.restart_revision(GROUP, APP, azure.get()["latestRevisionName"])
    until(
        lambda: (
            [one["name"] for one in azure.replicas()] != [old["name"]] and azure.ask()["env"]["KEY"] == "two"
        )
    )
    azure.put(secrets=[{"name": "key", "value": "two"}], suffix="plain")
    assert names() == ["key"]
    until(lambda: azure.get()["latestReadyRevisionName"] == f"{APP}--plain")
    with pytest.raises(HttpResponseError, match="ContainerAppSecretInUse"):
        azure.put(suffix="plain")
    with pytest.raises(HttpResponseError, match="ContainerAppSecretInvalid"):
        azure.patch({"configuration": {"secrets": [{"name": "key"}]}})


def test_changes_exclude_each_other(azure: Azure) -> None:
    azure.double.clock.scale = 0.05
    azure.environment()
    body = {
        "properties": {
            "workloadProfiles": [
                CONSUMPTION,
                {"name": "t4", "workloadProfileType": "Consumption-GPU-NC8as-T4"},
            ]
        }
    }
    first = azure.sdk.managed_environments.begin_update(GROUP, ENV, body)
    with pytest.raises(HttpResponseError, match="ManagedEnvironmentOperationInProgress") as refused:
        azure.sdk.managed_environments.begin_create_or_update(GROUP, ENV, {"location": REGION, **body})
    assert refused.value.status_code == 409
    assert [one["name"] for one in first.result().as_dict()["properties"]["workloadProfiles"]] == [
        "Consumption",
        "t4",
    ]
    starting = azure.sdk.container_apps.begin_create_or_update(GROUP, APP, azure.body())
    with pytest.raises(HttpResponseError, match="ContainerAppLockConflict") as refused:
        azure.sdk.container_apps.begin_stop(GROUP, APP)
    assert refused.value.status_code == 409
    starting.result()


def test_mount_needs_the_key_of_today(azure: Azure) -> None:
    azure.environment()
    azure.storage(key="c3RhbGU=")
    starting = azure.sdk.container_apps.begin_create_or_update(GROUP, APP, azure.body(mounted=True))
    said = until(lambda: [msg for reason, msg in azure.events() if reason == "FailedMount"])
    assert 'MountVolume.SetUp failed for volume "share"' in said[0]
    assert "Permission denied" in said[0]
    azure.storage()
    starting.result()
    shown = azure.sdk.managed_environments_storages.get(GROUP, ENV, "share").as_dict()["properties"][
        "azureFile"
    ]
    assert shown == {"accountName": "acct", "shareName": "share", "accessMode": "ReadWrite"}
    with pytest.raises(ResourceNotFoundError, match="ManagedEnvironmentStorageNotFound"):
        azure.sdk.managed_environments_storages.get(GROUP, ENV, "none")


def test_default_mount_lags_and_writes_through(azure: Azure) -> None:
    azure.double.clock.scale = 0.03
    azure.environment()
    azure.storage()
    azure.put(mounted=True)
    share: Path = azure.double.files.folder("acct", "share")
    (share / "new.txt").write_text("new")
    started = time.monotonic()
    if time.monotonic() - started < 0.2:
        assert azure.ask()["names"] in ([], ["new.txt"])
    until(lambda: azure.ask()["names"] == ["new.txt"])
    view = next((azure.apps.root / "replicas").glob("*/volumes/share"))
    (view / "mine.txt").write_text("mine")
    until(lambda: (share / "mine.txt").exists())
    (share / "new.txt").unlink()
    until(lambda: azure.ask()["names"] == ["mine.txt"])


def test_ingress_is_round_robin_or_sticky_streams_and_keeps_strangers_out(azure: Azure) -> None:
    azure.environment()
    azure.put(least=2)
    assert len(azure.replicas()) == 2
    seen = {azure.ask()["env"]["CONTAINER_APP_REPLICA_NAME"] for _ in range(4)}
    assert len(seen) == 2
    with azure.http.stream("GET", azure.url + "/stream") as answer:
        times = [(time.monotonic(), piece) for piece in answer.iter_raw()]
    assert b"".join(piece for _, piece in times) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert times[-1][0] - times[0][0] > 0.4, "passed on as it came"
    assert azure.http.post(azure.url, content=b"x" * 300_000).content == b"x" * 300_000
    azure.patch({"configuration": {"ingress": {"stickySessions": {"affinity": "sticky"}}}})
    assert len({azure.ask()["env"]["CONTAINER_APP_REPLICA_NAME"] for _ in range(4)}) == 1
    rule = {"name": "office", "ipAddressRange": "198.51.100.0/24", "action": "Allow"}
    azure.patch({"configuration": {"ingress": {"ipSecurityRestrictions": [rule]}}})
    assert azure.http.get(azure.url).status_code == 403
    azure.apps.client_ip = "198.51.100.9"
    assert azure.http.get(azure.url).status_code == 200
    assert azure.http.get(azure.url.replace(APP, "nobody", 1)).status_code == 404


def test_deleted_app_leaves_no_process(azure: Azure) -> None:
    azure.environment()
    azure.put()
    assert len(azure.apps.processes()) == 2, "the server and the child that left its process group"
    with pytest.raises(HttpResponseError, match="ManagedEnvironmentHasContainerApps"):
        azure.sdk.managed_environments.begin_delete(GROUP, ENV)
    azure.sdk.container_apps.begin_delete(GROUP, APP).result()
    assert not azure.apps.processes()
    with pytest.raises(ResourceNotFoundError, match="ResourceNotFound"):
        azure.sdk.container_apps.get(GROUP, APP)
    azure.sdk.managed_environments.begin_delete(GROUP, ENV).result()
    assert list(azure.sdk.managed_environments.list_by_resource_group(GROUP)) == []


def test_closed_double_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AzureDouble(tmp_path) as double:
        for name, value in double.environ().items():
            monkeypatch.setenv(name, value)
        double.arm.groups.add(GROUP, REGION)
        azure = Azure(double)
        azure.environment()
        azure.put()
        assert double.apps.processes()
        azure.http.close()
    assert not double.apps.processes()
    assert not [one.name for one in threading.enumerate() if APP in one.name]
    assert not double.crashes
