"""Resume and cancel uploads to a share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbtoolkit import sync
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.request_limits import ShareLimits
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import Cancelled, StoreError, SyncRefused
from nbtoolkit.filestore import chunked_io, temp_files
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble, Response
from tests.azure_double.faults import Refusing, Reset, Slow, Throttled
from tests.support.file_share import BIG, LONG, content, ranges, re_host, take_requests
from tests.support.wait import wait_until


def interrupted(double: AzureDouble, store: AzureShare, data: bytes, sha256: str) -> None:
    """Write until the service refuses after a few ranges."""
    double.faults.on("PUT", r"\.part", Refusing(403, "AuthorizationFailure"), nth=4, times=100)
    with pytest.raises(StoreError, match="firewall"):
        store.write("a/big", data, sha256=sha256)
    time.sleep(0.3)  # running ranges end
    double.faults.clear()
    double.requests.clear()


def test_a_failed_upload_is_resumed(azure_double: AzureDouble, store: AzureShare) -> None:
    data, sha256 = content(LONG)
    interrupted(azure_double, store, data, sha256)
    [left] = store.list("a")
    assert temp_files.is_partial_upload_of(left.name, sha256)

    reported: list[int] = []
    assert store.write("a/big", data, sha256=sha256, sent=reported.append) == sha256
    assert sum(reported) == LONG  # progress reports the whole file
    assert 0 < ranges(azure_double) < 6
    assert store.sha256("a/big") == sha256
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_an_upload_of_other_content_is_never_resumed(azure_double: AzureDouble, store: AzureShare) -> None:
    data, sha256 = content(LONG)
    interrupted(azure_double, store, data, sha256)
    other, other_sha256 = content(LONG)
    store.write("a/other", other, sha256=other_sha256)
    assert ranges(azure_double) == 6
    assert store.sha256("a/other") == other_sha256

    with pytest.raises(SyncRefused, match="changed while"):
        store.write("a/big", other, sha256=sha256)  # the source is no longer what was planned
    assert [entry.name for entry in store.list("a")] == ["other"]  # and what was mixed is gone
    store.write("a/big", data, sha256=sha256)
    assert store.sha256("a/big") == sha256


def test_ranges_of_another_content_are_never_published(
    azure_double: AzureDouble, found: ResourceNames
) -> None:
    store = AzureShare(Cloud(), found, ShareLimits(ranges_in_flight=2))
    store.make_folder("a")
    planned, sha256 = content(LONG)
    changed = planned[: chunked_io.CHUNK] + os.urandom(LONG - chunked_io.CHUNK)
    interrupted(azure_double, store, changed, sha256)  # before it was read to its end
    reported: list[int] = []
    assert store.write("a/big", planned, sha256=sha256, sent=reported.append) == sha256
    assert sum(reported) == LONG
    assert store.read("a/big") == planned
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_two_concurrent_uploads_of_the_same_content_succeed(store: AzureShare) -> None:
    data, sha256 = content()
    errors: list[Exception] = []

    def write(name: str) -> None:
        try:
            store.write(f"a/{name}", data, sha256=sha256)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "two", "one")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert {store.sha256("a/one"), store.sha256("a/two")} == {sha256}
    assert [entry.name for entry in store.list("a")] == ["one", "two"]


KILLED = """
import sys
from pathlib import Path
from nbtoolkit import sync
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.share import AzureShare
store = AzureShare(Cloud(), ResourceNames(*sys.argv[2:7]))
print("begin", flush=True)
sync.sync(Path(sys.argv[1]), store, "a/adapter", content_addressed=True)
"""


def test_a_killed_upload_is_resumed_by_the_next_sync(
    azure_double: AzureDouble, store: AzureShare, found: ResourceNames, tmp_path: Path
) -> None:
    data, sha256 = content(16 * chunked_io.CHUNK)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_bytes(b"{}")
    azure_double.faults.on("PUT", r"\.part", Slow(20), nth=4, times=1000)
    names = (found.subscription, found.resource_group, found.storage_account, found.file_share, found.app)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), *names], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: sum(seen.query.get("comp") == "range" for seen in azure_double.requests) >= 4, 30)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    azure_double.faults.clear()
    time.sleep(0.3)  # running requests end on the double

    planned = sync.plan(folder, store, "a/adapter", content_addressed=True)
    assert "model.safetensors" in [file.name for file in planned.missing]
    assert [name for name in planned.leftovers if temp_files.is_partial_upload_of(name, sha256)] == []
    take_requests(azure_double)
    sync.apply(planned, store)
    assert 0 < ranges(azure_double) <= 16 - 3
    assert store.sha256("a/adapter/model.safetensors") == sha256
    assert [entry.name for entry in store.list("a/adapter")] == ["config.json", "model.safetensors"]


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
def test_a_cancel_ends_an_upload_while_the_service_does_not_respond(
    azure_double: AzureDouble, store: AzureShare, size: int, fault: Callable[..., Response]
) -> None:
    azure_double.faults.on("PUT", r"\.part", fault, times=100)
    progress = CancelAfter(0.3)
    with pytest.raises(Cancelled):
        sync.sync({f"{i}": content(size)[0] for i in range(3)}, store, "a/b", progress=progress)
    assert time.monotonic() - progress.asked_at < 2
    assert [entry.name for entry in store.list("a/b") if not temp_files.is_temporary(entry.name)] == []


def test_a_cancel_ends_the_comparison_with_a_big_file_on_the_share(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    data, sha256 = content(LONG)
    store.write("a/big", data)
    reported: list[int] = []
    assert store.sha256("a/big", reported.append) == sha256
    assert sum(reported) == LONG

    azure_double.faults.on("GET", "a/big", Throttled(3000), nth=3, times=100)
    threading.Timer(0.3, (progress := Progress()).cancel).start()
    start = time.monotonic()

    def passed(_: int) -> None:
        progress.check()

    with pytest.raises(Cancelled):
        store.sha256("a/big", passed)
    assert time.monotonic() - start < 2


def test_a_cancel_ends_the_check_of_a_lost_rename(azure_double: AzureDouble, store: AzureShare) -> None:
    azure_double.faults.on("PUT", "a/file", Reset("lost"))
    azure_double.faults.on("HEAD", re_host(), Throttled(3000), times=100)
    progress = CancelAfter(0.3)
    start = time.monotonic()
    threading.Timer(0.5, progress.cancel).start()
    with pytest.raises(Cancelled):
        store.write("a/file", b"x", overwrite=False, sent=lambda _: progress.check())
    assert time.monotonic() - start < 2.5
