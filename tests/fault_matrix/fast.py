"""Azure's waiting times scaled down in this process, so that hundreds of failing runs take minutes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.core.pipeline.transport import HttpTransport

from nbtoolkit.azure import sdk
from nbtoolkit.azure.arm import long_running as changes
from nbtoolkit.azure.container_apps.stale_cache import StaleCache
from nbtoolkit.azure.files.concurrency import ShareLimits
from nbtoolkit.azure.files.share import AzureShare
from tests.azure_double import AzureDouble
from tests.support import stub_deploy

SCALE = 0.002
"""Real seconds for one of Azure's."""


@contextmanager
def fast_azure(root: Path, *, stub: bool = True) -> Iterator[AzureDouble]:
    """A double, the way to it in the environment, short waits, and the stub in the engine's place."""
    patch = pytest.MonkeyPatch()
    engine = stub_deploy.use_stub(stub_deploy.server_code(root)) if stub else pytest.MonkeyPatch()
    (root / "azure").mkdir()
    environment = dict(os.environ)
    try:
        hurry(patch)
        with AzureDouble(root / "azure", scale=SCALE) as double:
            os.environ.update(double.environ())
            double.apps.limits.deadline = 20 if stub else 150  # a real engine takes its time to start
            yield double
    finally:
        patch.undo()
        engine.undo()
        os.environ.clear()
        os.environ.update(environment)


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let this process wait for Azure as short as the double does."""
    patch.setattr(sdk, "POLL_INTERVAL", 0.05)
    patch.setattr(changes, "RETRY_TIMEOUT", 2.0)
    limits = ShareLimits(retry_busy=1.5, retry_unreachable=1.0, retry_in_use=0.5)
    patch.setattr(AzureShare.__init__, "__defaults__", (limits,))
    patch.setattr(StaleCache.__init__, "__defaults__", (1.5,))
    patch.setattr(HttpTransport, "sleep", lambda _, seconds: time.sleep(seconds * 0.02))
