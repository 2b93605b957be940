"""A cancel is heard while a request hangs, wherever it hangs; what hangs keeps nobody from going on."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm import subscriptions as places
from nbtoolkit.azure.arm.long_running import change
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.files.transport import make_transport
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.provisioning import ProvisionSettings, provision
from nbtoolkit.utils.threads import CallTimeout, run_all_cancellable, run_cancellable
from nbtoolkit.workspace import Workspace
from tests.azure_double import SUBSCRIPTION, AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.http import Handler

HEARD = 2.0
"""Seconds in which a cancel is heard."""


def test_what_a_call_returns_and_raises_is_passed_on() -> None:
    assert run_cancellable(None, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        run_cancellable(Progress(), lambda: 1 // 0)
    assert run_all_cancellable(None, {}) == {}


def test_calls_are_made_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=5)
    answers = run_all_cancellable(None, {str(n): meeting.wait for n in range(3)})
    assert sorted(answer.result() for answer in answers.values()) == [0, 1, 2]


def test_what_takes_too_long_is_left_behind() -> None:
    began, over = time.monotonic(), threading.Event()
    with pytest.raises(CallTimeout, match=r"0\.3 s"):
        run_cancellable(None, over.wait, timeout=0.3)
    assert time.monotonic() - began < 1
    over.set()


def test_what_hangs_keeps_no_program_from_ending() -> None:
    code = """
import threading
from nbtoolkit.azure.files.transport import make_transport
from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable
progress = Progress()
threading.Timer(0.1, progress.cancel).start()
try:
    run_cancellable(progress, threading.Event().wait)
except Cancelled:
    print("cancelled")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout == "cancelled\n"


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
def hang(azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.05)
    azure_double.clock.scale = 0.002
    found = Hang()
    yield found
    found.end()
    deadline = time.monotonic() + 10
    while any(thread.name == "nbtoolkit-pool" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "what was left behind has not ended"
        time.sleep(0.02)


def cancelled(hang: Hang, run: Callable[[Progress], object]) -> Cancelled:
    """Run until a request hangs, cancel then, and return how it ended."""
    progress, at = Progress(), list[float]()

    def cancel() -> None:
        assert hang.met.wait(20)
        at.append(time.monotonic())
        progress.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(Cancelled) as caught:
        run(progress)
    assert time.monotonic() - at[0] < HEARD
    return caught.value


@pytest.mark.parametrize(
    ("method", "where", "says"),
    [
        ("GET", "/resourcegroups/my-rg$", "Looking at what exists"),
        ("GET", "/managedEnvironments/[^/]+$", "Looking at what exists"),
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
def test_a_provision_hears_a_cancel_while_azure_keeps_silent(
    azure_double: AzureDouble, workspace_root: Path, hang: Hang, method: str, where: str, says: str
) -> None:
    azure_double.arm.groups.add("my-rg", "westus3")
    azure_double.faults.on(method, where, hang)
    settings = ProvisionSettings(subscription=SUBSCRIPTION, resource_group="my-rg", gpu="none")

    def run(progress: Progress) -> None:
        provision(settings, apply=True, workspace=Workspace(workspace_root), progress=progress)

    error = cancelled(hang, run)
    assert re.search(says, error.message), error.message


def test_a_cancel_that_azure_does_not_answer_says_so(
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


def test_no_client_waits_for_minutes_for_a_host_that_is_silent() -> None:
    cloud = Cloud(SimpleNamespace(get_token=lambda *_: None))  # type: ignore[arg-type]
    client: Any = cloud.resources(SUBSCRIPTION)
    timeouts = client._client._pipeline._transport.connection_config
    assert (timeouts.timeout, timeouts.read_timeout) == (20, 60)
    timeouts = make_transport("https://account.file.core.windows.net").connection_config
    assert (timeouts.timeout, timeouts.read_timeout) == (20, 60)


def test_regions_hear_a_cancel(azure_double: AzureDouble, hang: Hang) -> None:
    azure_double.faults.on("GET", "/locations/westus3/usages$", hang)
    cancelled(
        hang, lambda progress: places.regions(SUBSCRIPTION, quota_regions=("westus3",), progress=progress)
    )


def test_a_write_without_an_answer_may_have_begun(azure_double: AzureDouble, hang: Hang) -> None:
    azure_double.faults.on("POST", "/containerApps/tones/stop$", hang)
    app = ContainerApp(Cloud.shared(), ResourceNames(SUBSCRIPTION, "rg", "account", "share", "tones"))
    error = cancelled(hang, app.stop)
    assert "the request to stop the app tones; it may have accepted it" in error.message


def test_secrets_that_were_read_for_a_cancelled_change_are_not_written() -> None:
    wrote: list[object] = []
    reading, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def list_secrets(*_: object) -> SimpleNamespace:
        reading.set()
        go_on.wait(10)
        threading.Timer(0.2, ended.set).start()
        return SimpleNamespace(value=[])

    operations = SimpleNamespace(list_secrets=list_secrets, begin_update=lambda *given: wrote.append(given))
    cloud = SimpleNamespace(containerapps=lambda _: SimpleNamespace(container_apps=operations))
    app = ContainerApp(cloud, ResourceNames("s", "rg", "account", "share", "tones"))  # type: ignore[arg-type]
    hanging = SimpleNamespace(met=reading)
    cancelled(hanging, lambda progress: app.set_secrets({"a": "b"}, progress))  # type: ignore[arg-type]
    go_on.set()
    assert ended.wait(5)
    assert wrote == []


def test_another_change_is_not_kept_waiting_by_one_that_was_left_behind() -> None:
    never = threading.Event()
    hanging = SimpleNamespace(met=threading.Event())

    def begin() -> None:
        hanging.met.set()
        never.wait(10)

    cancelled(hanging, lambda progress: change("/x", "change x", begin, progress))  # type: ignore[arg-type]
    began = time.monotonic()
    change("/x", "change x", lambda: None, Progress())
    assert time.monotonic() - began < 1
    never.set()
