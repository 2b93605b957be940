"""Fixtures of the tests of forms."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from nbtoolkit.azure import sdk
from tests.azure_double import AzureDouble

VIEW_THREADS = ("nbtoolkit-azure-lists", "nbtoolkit-status", "nbtoolkit-log")


@pytest.fixture
def azure(azure_double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureDouble]:
    """Azure with fast polling; waits for the requests of all views before the double ends."""
    monkeypatch.setattr(sdk, "POLL_INTERVAL", 0.05)
    yield azure_double
    for thread in threading.enumerate():
        if thread.name in VIEW_THREADS:
            thread.join(10)
