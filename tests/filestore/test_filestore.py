"""A local folder and an Azure file share as file stores: one contract."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from nbtoolkit import filestore
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import AlreadyExists, Cancelled, NotInStore, StoreError, SyncRefused
from nbtoolkit.filestore import (
    FileStore,
    LocalFolder,
    chunked_io,
    rename_exclusively,
    temp_files,
)
from nbtoolkit.progress import Sent, silent
from tests.azure_double import AzureDouble
from tests.azure_double.share_setup import provisioned_share


@pytest.fixture
def local(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "share")


@pytest.fixture(params=["local", "azure"])
def store(request: pytest.FixtureRequest) -> FileStore:
    if request.param == "local":
        return request.getfixturevalue("local")
    double: AzureDouble = request.getfixturevalue("azure_double")
    return AzureShare(Cloud(), provisioned_share(double))


def names(store: FileStore, folder: str) -> list[str]:
    return [entry.name for entry in store.list(folder)]


def test_written_files_are_listed_and_read(store: FileStore, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(5 << 20))  # more than one chunk
    filestore.make_folders(store, "a/b")

    sha256 = store.write("a/b/file.bin", source)
    store.write("a/empty", b"")

    assert sha256 == store.sha256("a/b/file.bin") == hashlib.sha256(source.read_bytes()).hexdigest()
    assert [(e.name, e.is_folder, e.size) for e in store.list("a")] == [("b", True, 0), ("empty", False, 0)]
    assert [(e.name, e.is_folder, e.size) for e in store.list("a/b")] == [("file.bin", False, 5 << 20)]
    assert store.read("a/b/file.bin", offset=10, length=20) == source.read_bytes()[10:30]
    assert store.read("a/empty") == b""


def test_a_missing_folder_lists_nothing_and_a_missing_file_is_an_error(store: FileStore) -> None:
    assert store.list("") == []
    assert store.list("no/such") == []
    with pytest.raises(NotInStore, match="no/such"):
        store.read("no/such")
    with pytest.raises(NotInStore):
        store.sha256("no/such")
    store.delete("no")
    store.delete_folder("no")


def test_folders_are_created_one_by_one_as_on_azure_files(store: FileStore) -> None:
    with pytest.raises(NotInStore):
        store.make_folder("a/b")
    with pytest.raises(NotInStore):
        store.write("a/file", b"x")
    store.make_folder("a")
    store.make_folder("a")
    store.write("a/file", b"x")
    with pytest.raises(StoreError):
        store.make_folder("a/file")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/", "a\\b", "a\0b", ""]
)
def test_paths_that_could_leave_the_root_are_refused(store: FileStore, path: str) -> None:
    with pytest.raises(StoreError, match="is not a path in a file store"):
        store.write(path, b"x")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_no_file_is_changed_through_a_link_that_leaves_the_root(local: LocalFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    (outside / "kept").write_text("kept")
    local.make_folder("a")
    (local.root / "a" / "way").symlink_to(outside)

    assert local.read("a/way/kept") == b"kept"
    for change in (
        lambda: local.write("a/way/new", b"x"),
        lambda: local.delete("a/way/kept"),
        lambda: local.delete_folder("a/way/sub"),
        lambda: local.make_folder("a/way/more"),
        lambda: local.rename("a/way/kept", "a/way/moved"),
    ):
        with pytest.raises(StoreError, match="leads out of the share"):
            change()
    local.delete_folder("a/way")  # the link itself is inside the root
    assert names(local, "a") == []
    assert sorted(p.name for p in outside.iterdir()) == ["kept", "sub"]


def test_the_root_itself_is_never_deleted(store: FileStore) -> None:
    with pytest.raises(StoreError, match="root"):
        store.delete_folder("")


def test_rename_overwrites_only_with_overwrite(store: FileStore) -> None:
    store.make_folder("a")
    store.write("a/old", b"old")
    store.write("a/new", b"new")
    with pytest.raises(AlreadyExists):
        store.rename("a/old", "a/new")
    with pytest.raises(AlreadyExists):
        store.write("a/new", b"newer", overwrite=False)
    assert store.read("a/new") == b"new"
    assert names(store, "a") == ["new", "old"]  # and no temporary file

    store.rename("a/old", "a/new", overwrite=True)
    assert store.read("a/new") == b"old"
    assert names(store, "a") == ["new"]
    with pytest.raises(NotInStore, match="a/old"):
        store.rename("a/old", "a/other")


def race(store: FileStore) -> None:
    store.make_folder("a")
    barrier = threading.Barrier(12)
    won: list[int] = []

    def write(i: int) -> None:
        barrier.wait(30)
        try:
            store.write("a/one", f"writer {i}".encode(), overwrite=False)
        except AlreadyExists:
            return
        won.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) == 1
    assert store.read("a/one") == f"writer {won[0]}".encode()
    assert names(store, "a") == ["one"]


def test_exactly_one_of_many_concurrent_renames_succeeds(store: FileStore) -> None:
    race(store)


def test_exclusive_rename_without_hard_links(local: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    race(local)


def test_exclusive_rename_raises_other_errors_of_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    (tmp_path / "old").write_text("x")
    with pytest.raises(OSError, match="Input/output"):
        rename_exclusively(tmp_path / "old", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_cancelled_write_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(bytes(3 * chunked_io.CHUNK))
    store.make_folder("a")
    seen: list[int] = []

    def stop(count: int) -> None:
        if count == 0:
            return  # the write is slow
        seen.append(count)
        assert [e.name for e in store.list("a") if not temp_files.is_temporary(e.name)] == []
        if len(seen) == 2:
            raise Cancelled("enough", next_step="none")

    with pytest.raises(Cancelled):
        store.write("a/big", source, sent=stop)
    assert seen == [chunked_io.CHUNK, chunked_io.CHUNK]
    assert store.list("a") == []


def test_a_source_that_differs_from_the_plan_is_not_written(store: FileStore, tmp_path: Path) -> None:
    store.make_folder("a")
    with pytest.raises(SyncRefused, match="a/file changed while it was being sent"):
        store.write("a/file", b"other", sha256=hashlib.sha256(b"planned").hexdigest())
    with pytest.raises(SyncRefused, match="cannot be read"):
        store.write("a/file", tmp_path / "gone")
    assert store.list("a") == []


def test_a_write_that_does_not_verify_raises_and_keeps_the_old_file(
    local: LocalFolder,
) -> None:
    class Corrupting(LocalFolder):
        def sha256(self, path: str, passed: Sent = silent) -> str:
            return "0" * 64

    local.make_folder("a")
    local.write("a/file", b"old")
    with pytest.raises(StoreError, match="did not arrive as it was sent"):
        Corrupting(local.root).write("a/file", b"new")
    assert local.read("a/file") == b"old"
    assert names(local, "a") == ["file"]


def test_a_version_changes_with_every_write(store: FileStore) -> None:
    store.make_folder("a")
    store.write("a/file", b"one")
    first = store.list("a")[0]
    assert store.list("a")[0] == first
    store.write("a/file", b"two")
    assert store.list("a")[0].size == first.size
    assert store.list("a")[0].version != first.version


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs rights that can be taken away")
def test_a_folder_without_permission_is_named(local: LocalFolder) -> None:
    local.make_folder("a")
    (local.root / "a").chmod(0o500)
    with pytest.raises(StoreError, match="Could not write a/file"):
        local.write("a/file", b"x")


def test_a_temporary_name_shows_whether_its_writer_is_running() -> None:
    name = temp_files.temp_name()
    fields = name.split("-")
    assert temp_files.is_temporary(name)
    assert not temp_files.is_abandoned(name)
    assert temp_files.temp_name() != name
    assert len(name) < 80

    def with_field(index: int, value: str) -> str:
        return "-".join([*fields[:index], value, *fields[index + 1 :]])

    assert temp_files.is_abandoned(with_field(2, "4194999"))  # a pid beyond Linux's highest
    assert temp_files.is_abandoned(with_field(3, "5"))  # the pid was reused
    elsewhere = with_field(1, "00000000")
    written = int(fields[4], 16)
    assert not temp_files.is_abandoned(elsewhere, now=written + 3600)
    assert temp_files.is_abandoned(elsewhere, now=written + 25 * 3600)
    for other in ("model.safetensors", ".nbtoolkit-x.part", f"{name}.bak"):
        assert not temp_files.is_temporary(other)
        assert not temp_files.is_abandoned(other)
