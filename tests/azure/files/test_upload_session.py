"""A cancel ends uploads and comparisons while the service does not respond."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from nbtoolkit import sync
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import Cancelled
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble, Response
from tests.azure_double.faults import Reset, Slow, Throttled
from tests.support.file_share import BIG, LONG, content, re_host


class CancelAfter(Progress):
    """A user who cancels some time after the sending began."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self.asked_at = 0.0

    def show(self, text: str) -> None:
        if text.startswith("Sending"):
            timer = threading.Timer(self._seconds, self.cancel)
            timer.daemon = True
            timer.start()

    def cancel(self) -> None:
        self.asked_at = self.asked_at or time.monotonic()
        super().cancel()


@pytest.mark.parametrize("size", [1000, BIG], ids=["small", "big"])
@pytest.mark.parametrize("fault", [Throttled(3000), Slow(3000)], ids=["throttled", "slow"])
def test_a_cancel_is_heard_while_the_service_keeps_silent(
    azure_double: AzureDouble, store: AzureShare, size: int, fault: Callable[..., Response]
) -> None:
    azure_double.faults.on("PUT", r"\.part", fault, times=100)
    progress = CancelAfter(0.3)
    with pytest.raises(Cancelled):
        sync.sync({f"{i}": content(size)[0] for i in range(3)}, store, "a/b", progress=progress)
    assert time.monotonic() - progress.asked_at < 2
    assert [entry.name for entry in store.list("a/b") if not temp_names.is_temporary(entry.name)] == []


def test_a_cancel_ends_the_comparison_with_a_big_file_on_the_share(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    data, sha256 = content(LONG)
    store.write("a/big", data)
    told: list[int] = []
    assert store.sha256("a/big", told.append) == sha256
    assert sum(told) == LONG

    azure_double.faults.on("GET", "a/big", Throttled(3000), nth=3, times=100)
    threading.Timer(0.3, (progress := Progress()).cancel).start()
    start = time.monotonic()

    def passed(_: int) -> None:
        progress.check()

    with pytest.raises(Cancelled):
        store.sha256("a/big", passed)
    assert time.monotonic() - start < 2


def test_a_cancel_is_heard_while_a_lost_rename_is_looked_for(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    azure_double.faults.on("PUT", "a/file", Reset("lost"))
    azure_double.faults.on("HEAD", re_host(), Throttled(3000), times=100)
    progress = CancelAfter(0.3)
    start = time.monotonic()
    threading.Timer(0.5, progress.cancel).start()
    with pytest.raises(Cancelled):
        store.write("a/file", b"x", overwrite=False, sent=lambda _: progress.check())
    assert time.monotonic() - start < 2.5
