"""Retries of Azure Files: throttling, resets, lost responses, corrupted ranges, files in use."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.request_limits import ShareLimits
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import StoreError
from nbtoolkit.filestore import temp_files
from tests.azure_double import AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.faults import Broken, Refusing, Reset, Throttled
from tests.azure_double.http import Body, Handler
from tests.support.file_share import BIG, content, on_disk, re_host, take_requests

SMALL_STEPS = ("create", "rename")
BIG_STEPS = ("look for a part", "create", "range", "range", "range", "rename")


@pytest.mark.parametrize(
    "fault",
    [Throttled(5), Broken(), Reset("before"), Reset("upload"), Reset("lost")],
    ids=["throttled", "500", "before", "upload", "lost"],
)
@pytest.mark.parametrize(("size", "steps"), [(1000, SMALL_STEPS), (BIG, BIG_STEPS)], ids=["small", "big"])
def test_a_write_is_retried_after_a_fault_of_any_request(
    azure_double: AzureDouble,
    store: AzureShare,
    size: int,
    steps: tuple[str, ...],
    fault: Callable[..., Response],
) -> None:
    data, sha256 = content(size)
    for step in dict.fromkeys(steps):
        planned = azure_double.faults.on("PUT|GET", re_host(), fault, nth=1 + steps.index(step))
        store.write(f"a/{step}", data, sha256=sha256, overwrite=False)
        assert planned.hits == 1
        assert len(take_requests(azure_double)) >= len(steps)
        azure_double.faults.clear()
        assert (on_disk(azure_double) / "a" / step).read_bytes() == data
    assert [e.name for e in store.list("a") if temp_files.is_temporary(e.name)] == []


def test_a_retry_waits_for_retry_after(azure_double: AzureDouble, store: AzureShare) -> None:
    azure_double.faults.on("GET", re_host(), Throttled(60), times=2)
    start = time.monotonic()
    store.list("a")
    assert 1.2 <= time.monotonic() - start < 5  # twice 60 of the double's seconds
    assert [seen.status for seen in take_requests(azure_double)] == [503, 503, 200]


@pytest.mark.parametrize("when", ["before", "answer"])
def test_a_read_is_retried_after_connection_resets(
    azure_double: AzureDouble, store: AzureShare, when: str
) -> None:
    data, sha256 = content()
    store.write("a/big", data)
    azure_double.faults.on("GET", re_host(), Reset(when), times=3)
    assert store.read("a/big") == data
    azure_double.faults.on("GET", re_host(), Reset(when), nth=3)
    assert store.sha256("a/big") == sha256
    azure_double.faults.on("GET", re_host(), Reset(when))
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_other_changes_are_retried_after_a_lost_response(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    store.write("a/file", b"x")
    for method in ("PUT", "DELETE"):
        azure_double.faults.on(method, re_host(), Reset("lost"))
        if method == "PUT":
            store.make_folder("a/sub")
        else:
            store.delete("a/file")
    azure_double.faults.on("DELETE", "a/sub", Reset("lost"))
    store.delete_folder("a/sub")
    assert store.list("a") == []


def garbled(request: Request, serve: Handler, clock: Clock) -> Response:
    """Change a byte in transit."""
    data = bytearray(request.body.read())
    if data:
        data[len(data) // 2] ^= 1
        request.body = _body(bytes(data), request)
        return serve(request)
    answer = serve(request)
    if request.method == "GET" and isinstance(answer.body, bytes):
        text = bytearray(answer.body)
        text[len(text) // 2] ^= 1
        answer.body = bytes(text)
    return answer


def _body(data: bytes, request: Request) -> Body:
    import io

    return Body(io.BytesIO(data), request.headers, lambda: None)


@pytest.mark.parametrize("size", [1000, BIG], ids=["small", "big"])
def test_a_corrupted_range_is_sent_and_downloaded_again(
    azure_double: AzureDouble, store: AzureShare, size: int
) -> None:
    data, _ = content(size)
    sent = azure_double.faults.on("PUT", r"\.part", garbled, nth=1 if size == 1000 else 3)
    store.write("a/file", data)
    assert sent.hits == 1
    assert [seen.status for seen in take_requests(azure_double)].count(400) == 1
    fetched = azure_double.faults.on("GET", "a/file", garbled)
    assert store.read("a/file") == data
    assert fetched.hits == 1


def test_retries_end_after_the_timeout_with_a_next_step(
    azure_double: AzureDouble, found: ResourceNames
) -> None:
    store = AzureShare(Cloud(), found, ShareLimits(retry_busy=1, retry_unreachable=1))
    store.make_folder("a")
    azure_double.faults.on("GET", re_host(), Broken(503, "ServerBusy"), times=100)
    with pytest.raises(StoreError, match="throttling") as caught:
        store.list("a")
    assert "wait" in caught.value.next_step
    azure_double.faults.clear()
    azure_double.faults.on("GET", re_host(), Reset("before"), times=100)
    with pytest.raises(StoreError, match="no complete response") as caught:
        store.list("a")
    assert "HTTPS_PROXY" in caught.value.next_step


def test_a_file_held_open_by_a_replica_is_retried_until_the_timeout(
    azure_double: AzureDouble, found: ResourceNames, store: AzureShare
) -> None:
    azure_double.faults.on("PUT", "a/file", Refusing(409, "SharingViolation"), times=2)
    store.write("a/file", b"x")
    store = AzureShare(Cloud(), found, ShareLimits(retry_in_use=0.5))
    azure_double.faults.on("PUT", "a/file", Refusing(409, "SharingViolation"), times=100)
    with pytest.raises(StoreError, match="holds it open"):
        store.write("a/file", b"y")
