"""Requests, logs, events and the share of a container of the double."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from azure.core.exceptions import ResourceNotFoundError

from tests.support.container_app_harness import APP, ENV, GROUP, Azure
from tests.support.container_app_harness import azure_fixture as azure_fixture
from tests.support.wait import wait_until


def test_status_and_logs_send_no_request_to_the_app(azure: Azure) -> None:
    azure.environment()
    azure.put(mounted=False)
    [replica] = azure.replicas()
    container = replica["properties"]["containers"][0]
    assert (replica["properties"]["runningState"], container["ready"], container["restartCount"]) == (
        "Running",
        True,
        0,
    )
    records = wait_until(
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


def test_log_stream_redirects_is_interrupted_and_needs_its_token(azure: Azure) -> None:
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
    """Follow a log, read a new line, and interrupt the stream."""
    answer = azure.http.send(azure.stream(url, follow="true", output="text", tailLines=0), stream=True)
    lines = answer.iter_lines()
    assert "Connecting" in next(lines)
    assert "Successfully" in next(lines)
    azure.ask(path)
    assert next(lines).endswith(f"F said {path}")
    azure.apps.cut_log_streams()
    next(lines)


def test_mount_needs_the_current_key(azure: Azure) -> None:
    azure.environment()
    azure.storage(key="c3RhbGU=")
    starting = azure.sdk.container_apps.begin_create_or_update(GROUP, APP, azure.body(mounted=True))
    messages = wait_until(lambda: [msg for reason, msg in azure.events() if reason == "FailedMount"])
    assert 'MountVolume.SetUp failed for volume "share"' in messages[0]
    assert "Permission denied" in messages[0]
    azure.storage()
    starting.result()
    shown = azure.sdk.managed_environments_storages.get(GROUP, ENV, "share").as_dict()["properties"][
        "azureFile"
    ]
    assert shown == {"accountName": "acct", "shareName": "share", "accessMode": "ReadWrite"}
    with pytest.raises(ResourceNotFoundError, match="ManagedEnvironmentStorageNotFound"):
        azure.sdk.managed_environments_storages.get(GROUP, ENV, "none")


def test_default_mount_caches_reads_and_writes_through(azure: Azure) -> None:
    azure.double.clock.scale = 0.03
    azure.environment()
    azure.storage()
    azure.put(mounted=True)
    share: Path = azure.double.files.folder("acct", "share")
    (share / "new.txt").write_text("new")
    started = time.monotonic()
    if time.monotonic() - started < 0.2:
        assert azure.ask()["names"] in ([], ["new.txt"])
    wait_until(lambda: azure.ask()["names"] == ["new.txt"])
    view = next((azure.apps.root / "replicas").glob("*/volumes/share"))
    (view / "mine.txt").write_text("mine")
    wait_until(lambda: (share / "mine.txt").exists())
    (share / "new.txt").unlink()
    wait_until(lambda: azure.ask()["names"] == ["mine.txt"])


def test_ingress_is_round_robin_or_sticky_streams_and_restricts_addresses(azure: Azure) -> None:
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
