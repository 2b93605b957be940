"""Fixtures of the tests of forms."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.azure_double import AzureDouble

VIEW_THREADS = ("nbtoolkit-azure-lists", "nbtoolkit-status", "nbtoolkit-log")


@pytest.fixture
def azure(azure_double: AzureDouble) -> Iterator[AzureDouble]:
    """The double; waits for the requests of all views before the double ends."""
    yield azure_double
    for thread in threading.enumerate():
        if thread.name in VIEW_THREADS:
            thread.join(10)
