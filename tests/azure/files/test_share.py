"""AzureShare as a store: sync of many files, folders, listings, versions."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from nbtoolkit import sync
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import Cancelled, StoreError
from nbtoolkit.filestore import make_folders
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble
from tests.azure_double.faults import Refusing, Slow
from tests.support.file_share import on_disk, take_requests


def tree(folder: Path, count: int, folders: int) -> Path:
    for i in range(count):
        file = folder / f"{i % folders:02}" / f"{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"content {i}")
    return folder


@pytest.mark.parametrize(
    "count", [200, pytest.param(2000, marks=pytest.mark.all)], ids=["200 files", "2,000 files"]
)
@pytest.mark.parametrize("content_addressed", [True, False], ids=["by content", "compared"])
def test_an_unchanged_sync_lists_each_folder_once_and_writes_nothing(
    azure_double: AzureDouble, store: AzureShare, tmp_path: Path, count: int, content_addressed: bool
) -> None:
    folder = tree(tmp_path / "many", count, folders=10)
    first = sync.sync(folder, store, "a/many", content_addressed=content_addressed)
    assert first.sent_files == count
    writes = [seen for seen in take_requests(azure_double) if seen.method != "GET"]
    assert len(writes) <= 2 * count + 11 + 5  # each file is created and renamed
    root = on_disk(azure_double) / "a" / "many"
    assert {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*.txt")} == {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.txt")
    }
    azure_double.requests.clear()

    again = sync.sync(folder, store, "a/many", content_addressed=content_addressed)
    assert (again.sent_files, again.skipped_files) == (0, count)
    seen = [*azure_double.requests]
    assert [request.method for request in seen if request.method != "GET"] == []
    assert len(seen) <= 11 + 5


def test_a_folder_is_deleted_with_all_below_it(azure_double: AzureDouble, store: AzureShare) -> None:
    make_folders(store, "a/b/c")
    for i in range(20):
        store.write(f"a/b/{i}", b"x")
        store.write(f"a/b/c/{i}", b"x")
    store.delete_folder("a/b")
    assert store.list("a") == []
    store.delete_folder("a/b")
    with pytest.raises(StoreError, match="root"):
        store.delete_folder("")


def test_deleting_ends_at_the_first_error_and_at_a_cancel(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    store.make_folder("a/many")
    folder = on_disk(azure_double) / "a" / "many"
    for i in range(200):
        (folder / f"{i:03}").write_bytes(b"x")
    azure_double.faults.on("DELETE", "a/many/000", Refusing(403, "AuthorizationFailure"))
    with pytest.raises(StoreError, match="firewall"):
        store.delete_folder("a/many")
    time.sleep(0.5)  # running requests end
    assert len([*folder.iterdir()]) > 100

    azure_double.faults.on("DELETE", "a/many", Slow(20), times=1000)
    planned = sync.plan({"one": b"1"}, store, "a", delete_extra=True)
    threading.Timer(0.3, (progress := Progress()).cancel).start()
    with pytest.raises(Cancelled):
        sync.apply(planned, store, progress)
    time.sleep(0.5)
    assert len([*folder.iterdir()]) > 60


def test_long_listings_come_in_pages(
    azure_double: AzureDouble, store: AzureShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.azure_double import share_items

    monkeypatch.setattr(share_items, "PAGE", 7)
    for i in range(20):
        store.write(f"a/{i:02}", b"x")
    take_requests(azure_double)
    assert [entry.name for entry in store.list("a")] == [f"{i:02}" for i in range(20)]
    assert len(take_requests(azure_double)) == 3


def test_an_edited_file_has_another_version(azure_double: AzureDouble, store: AzureShare) -> None:
    store.write("a/file", b"one")
    [before] = store.list("a")
    assert before.version
    (on_disk(azure_double) / "a" / "file").write_bytes(b"two")  # as a mount writes
    [after] = store.list("a")
    assert after.size == before.size
    assert after.version != before.version
