"""A cancel takes effect while a request to Azure hangs, and the hanging request blocks nothing else."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure.arm import subscriptions
from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.files.transport import make_transport
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import ProvisionSettings, provision
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.http import Handler
from tests.support.wait import wait_until

CANCEL_LIMIT = 2.0
"""Seconds within which a cancel takes effect."""


class Hang:
    """A fault: a request gets no answer until :meth:`end`."""

    def __init__(self) -> None:
        self.met, self._over = threading.Event(), threading.Event()
        self.end = self._over.set

    def __call__(self, request: Request, serve: Handler, clock: Clock) -> Response:
        self.met.set()
        self._over.wait(30)
        return serve(request)


@pytest.fixture
def hang(azure_double: AzureDouble) -> Iterator[Hang]:
    azure_double.clock.scale = 0.002
    earlier = set(threading.enumerate())  # idle threads of the pool of Azure Files
    found = Hang()
    yield found
    found.end()
    wait_until(
        lambda: not any(one.name == "nbtoolkit-pool" for one in {*threading.enumerate()} - earlier),
        message="an abandoned request has not ended",
    )


def cancelled(hang: Hang, run: Callable[[Progress], object]) -> Cancelled:
    """Run until a request hangs, cancel then, and return its error."""
    progress, at = Progress(), list[float]()

    def cancel() -> None:
        assert hang.met.wait(20)
        at.append(time.monotonic())
        progress.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(Cancelled) as caught:
        run(progress)
    assert time.monotonic() - at[0] < CANCEL_LIMIT
    return caught.value


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/resourcegroups/my-rg$", "Reading what exists on Azure"),
        ("GET", "/managedEnvironments/[^/]+$", "Reading what exists on Azure"),
        ("GET", "/deployments/nbtoolkit-[^/]+$", "Cancelled while"),
        ("GET", "/providers/Microsoft.Storage$", "Checking permissions"),
        ("POST", "/whatIf$", "Cancelled while"),
        ("PUT", "/deployments/nbtoolkit-[^/]+$", "start the deployment .*may have accepted it"),
        (
            "GET",
            "/deployments/nbtoolkit-[^/]+/operations$",
            "The deployment .* is cancelled",
        ),
    ],
)
def test_provision_is_cancelled_while_a_request_hangs(
    azure_double: AzureDouble, workspace_root: Path, hang: Hang, method: str, path: str, message: str
) -> None:
    azure_double.arm.groups.add("my-rg", "westus3")
    azure_double.faults.on(method, path, hang)
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="my-rg", gpu="none")

    def run(progress: Progress) -> None:
        provision(settings, apply=True, workspace=Workspace(workspace_root), progress=progress)

    error = cancelled(hang, run)
    assert re.search(message, error.message), error.message


def test_a_cancel_of_a_deployment_without_a_response_is_reported(
    azure_double: AzureDouble, workspace_root: Path, hang: Hang
) -> None:
    azure_double.arm.groups.add("my-rg", "westus3")
    azure_double.faults.on("POST|GET", "/deployments/nbtoolkit-[^/]+/(cancel|operations)$", hang, times=9)
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="my-rg", gpu="none")

    def run(progress: Progress) -> None:
        provision(settings, apply=True, workspace=Workspace(workspace_root), progress=progress)

    error = cancelled(hang, run)
    assert "has no response yet" in error.message
    assert "attaches to it" in error.next_step


def test_all_clients_have_connect_and_read_timeouts() -> None:
    cloud = Cloud(SimpleNamespace(get_token=lambda *_: None))  # type: ignore[arg-type]
    client: Any = cloud.resources(SUBSCRIPTION)
    timeouts = client._client._pipeline._transport.connection_config
    assert (timeouts.timeout, timeouts.read_timeout) == (20, 60)
    timeouts = make_transport("https://account.file.core.windows.net").connection_config
    assert (timeouts.timeout, timeouts.read_timeout) == (20, 60)


def test_listing_regions_is_cancelled_while_a_request_hangs(azure_double: AzureDouble, hang: Hang) -> None:
    azure_double.faults.on("GET", "/locations/westus3/usages$", hang)
    cancelled(
        hang,
        lambda progress: subscriptions.regions(SUBSCRIPTION, quota_regions=("westus3",), progress=progress),
    )


def test_a_cancelled_write_without_a_response_may_have_been_applied(
    azure_double: AzureDouble, hang: Hang
) -> None:
    azure_double.faults.on("POST", "/containerApps/tones/stop$", hang)
    app = ContainerApp(Cloud.shared(), ResourceNames(SUBSCRIPTION, "rg", "account", "share", "tones"))
    error = cancelled(hang, app.stop)
    assert "the request to stop the app tones; it may have accepted it" in error.message


def test_a_cancelled_change_of_secrets_writes_nothing() -> None:
    written: list[object] = []
    reading, proceed, ended = threading.Event(), threading.Event(), threading.Event()

    def list_secrets(*_: object) -> SimpleNamespace:
        reading.set()
        proceed.wait(10)
        threading.Timer(0.2, ended.set).start()
        return SimpleNamespace(value=[])

    operations = SimpleNamespace(list_secrets=list_secrets, begin_update=lambda *given: written.append(given))
    client = SimpleNamespace(container_apps=operations)
    cloud: Any = SimpleNamespace(containerapps=lambda _: client, poll_interval=0.01)
    app = ContainerApp(cloud, ResourceNames("s", "rg", "account", "share", "tones"))  # type: ignore[arg-type]
    hanging = SimpleNamespace(met=reading)
    cancelled(hanging, lambda progress: app.set_secrets({"a": "b"}, progress))  # type: ignore[arg-type]
    proceed.set()
    assert ended.wait(5)
    assert written == []


def test_an_abandoned_change_does_not_block_the_next_one() -> None:
    never = threading.Event()
    hanging = SimpleNamespace(met=threading.Event())

    def begin() -> None:
        hanging.met.set()
        never.wait(10)

    cancelled(hanging, lambda progress: change("/x", "change x", begin, progress, retry_interval=1))  # type: ignore[arg-type]
    began = time.monotonic()
    change("/x", "change x", lambda: None, Progress(), retry_interval=1)
    assert time.monotonic() - began < 1
    never.set()
