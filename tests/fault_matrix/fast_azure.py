"""The Azure double with short timeouts in this process, so that hundreds of failing runs take minutes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.core.pipeline.transport import HttpTransport

from nbtoolkit.azure import clients
from nbtoolkit.azure.arm import long_running
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.replica_poller import StaleCache
from nbtoolkit.azure.files.request_limits import ShareLimits
from nbtoolkit.azure.files.share import AzureShare
from tests.azure_double import AzureDouble
from tests.support.stub_deploy import server_code, use_stub

SCALE = 0.002
"""Real seconds for one second of Azure."""
POLL_INTERVAL = 0.05
"""Seconds between two polls of a long-running operation."""


@contextmanager
def fast_azure(root: Path, *, stub: bool = True) -> Iterator[AzureDouble]:
    """Run a double that the environment names, with short timeouts and, with ``stub``, the stub engine."""
    patch = pytest.MonkeyPatch()
    engine = use_stub(server_code(root)) if stub else pytest.MonkeyPatch()
    (root / "azure").mkdir()
    environment = dict(os.environ)
    try:
        short_timeouts(patch)
        with AzureDouble(root / "azure", scale=SCALE) as double:
            os.environ.update(double.environ())
            if not stub:
                double.apps.limits.deadline = 150  # a real engine starts slowly
            yield double
    finally:
        clients.Cloud.shared().close()
        patch.undo()
        engine.undo()
        os.environ.clear()
        os.environ.update(environment)


def short_timeouts(patch: pytest.MonkeyPatch) -> None:
    """Scale the product's timeouts for Azure down to those of the double."""
    patch.setattr(clients, "_shared", clients.Cloud(poll_interval=POLL_INTERVAL))
    for function in (long_running.change, ContainerApp.__init__):
        patch.setitem(function.__kwdefaults__, "retry_timeout", 2.0)
    limits = ShareLimits(retry_busy=1.5, retry_unreachable=1.0, retry_in_use=0.5)
    patch.setattr(AzureShare.__init__, "__defaults__", (limits,))
    patch.setattr(StaleCache.__init__, "__defaults__", (1.5,))
    patch.setattr(HttpTransport, "sleep", lambda _, seconds: time.sleep(seconds * 0.02))
