"""The double's Azure Files, driven by the official SDK."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.fileshare import ShareClient, ShareServiceClient

from tests.azure_double import AzureDouble
from tests.azure_double.share_auth import Account
from tests.azure_double.share_content import _merge_ranges, _subtract_range

NAME = "doubleaccount"
URL = f"https://{NAME}.file.core.windows.net"


@pytest.fixture
def account(azure_double: AzureDouble) -> Account:
    return azure_double.files.create_account(NAME)


@pytest.fixture
def share(azure_double: AzureDouble, account: Account) -> ShareClient:
    azure_double.files.create_share(NAME, "share")
    return ShareClient(URL, "share", credential=account.keys[1])


def refused(call: Callable[[], object]) -> tuple[int | None, str]:
    with pytest.raises(HttpResponseError) as caught:
        call()
    code = caught.value.error_code
    return caught.value.status_code, str(getattr(code, "value", code))


def test_shares_are_created_listed_described_and_deleted(account: Account) -> None:
    service = ShareServiceClient(URL, credential=account.keys[0])
    for name in ("one", "two", "three"):
        service.create_share(name, metadata={"made": "here"})
    assert refused(lambda: service.create_share("one")) == (409, "ShareAlreadyExists")
    assert refused(lambda: service.create_share("Not-A-Name")) == (400, "InvalidResourceName")
    assert [share.name for share in service.list_shares(results_per_page=2)] == ["one", "three", "two"]
    assert [share.name for share in service.list_shares(name_starts_with="t")] == ["three", "two"]
    share = service.get_share_client("one")
    share.set_share_quota(7)
    share.set_share_metadata({"made": "again"})
    found = share.get_share_properties()
    assert (found.quota, found.metadata) == (7, {"made": "again"})
    assert share.get_share_stats() == 0
    share.delete_share()
    assert refused(share.get_share_properties) == (404, "ShareNotFound")
    assert refused(lambda: share.create_directory("x")) == (404, "ShareNotFound")


def test_ranges_are_written_listed_cleared_and_read(share: ShareClient, azure_double: AzureDouble) -> None:
    file = share.get_file_client("file")
    file.create_file(4096)
    assert azure_double.files.folder(NAME, "share").joinpath("file").stat().st_size == 4096  # at once
    file.upload_range(b"a" * 512, offset=0, length=512)
    file.upload_range(b"b" * 1024, offset=1024, length=1024, validate_content=True)
    assert [(r.start, r.end) for r in file.list_ranges()] == [(0, 511), (1024, 2047)]
    file.clear_range(offset=1024, length=512)
    assert [(r.start, r.end) for r in file.list_ranges()] == [(0, 511), (1536, 2047)]
    expected = b"a" * 512 + bytes(1024) + b"b" * 512 + bytes(2048)
    assert file.download_file().readall() == expected
    assert file.download_file(offset=500, length=20, validate_content=True).readall() == expected[500:520]
    assert refused(lambda: file.upload_range(b"c" * 512, offset=4000, length=512)) == (416, "InvalidRange")
    assert refused(lambda: file.download_file(offset=5000, length=1)) == (416, "InvalidRange")
    file.resize_file(512)
    assert file.get_file_properties().size == 512
    wrong = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert refused(lambda: file.upload_range(b"d" * 512, 0, 512, headers=wrong)) == (400, "Md5Mismatch")
    assert file.download_file().readall() == b"a" * 512


def test_ranges_are_merged_and_subtracted() -> None:
    assert _merge_ranges([(8, 9), (0, 3), (4, 5), (2, 2)]) == [(0, 5), (8, 9)]
    assert [*_subtract_range((0, 9), 3, 5)] == [(0, 2), (6, 9)]
    assert [*_subtract_range((0, 9), 0, 9)] == []
    assert [*_subtract_range((0, 2), 3, 5)] == [(0, 2)]


def test_files_and_folders_are_renamed(share: ShareClient) -> None:
    share.create_directory("a")
    share.create_directory("a/b")
    one, two = share.get_file_client("a/b/one"), share.get_file_client("a/b/two")
    one.create_file(3, data=b"one")
    two.create_file(3, data=b"two", file_attributes="ReadOnly")
    assert refused(lambda: one.rename_file("a/b/two")) == (409, "ResourceAlreadyExists")
    assert refused(lambda: one.rename_file("a/b/two", overwrite=True)) == (409, "ReadOnlyAttribute")
    one.rename_file("a/b/two", overwrite=True, ignore_read_only=True)
    assert two.download_file().readall() == b"one"
    assert refused(lambda: one.rename_file("a/b/three")) == (404, "ResourceNotFound")
    assert refused(lambda: two.rename_file("a/none/three")) == (404, "ParentNotFound")
    share.get_directory_client("a/b").rename_directory("a/c d~é")
    moved = share.get_file_client("a/c d~é/two")
    assert moved.download_file().readall() == b"one"
    assert [r.end for r in moved.list_ranges()] == [2]


def test_folders_are_created_listed_and_deleted_if_empty(share: ShareClient) -> None:
    folder = share.get_directory_client("a")
    assert refused(lambda: share.create_directory("a/b")) == (404, "ParentNotFound")
    folder.create_directory(metadata={"k": "v"})
    assert folder.get_directory_properties().metadata == {"k": "v"}
    assert refused(folder.create_directory) == (409, "ResourceAlreadyExists")
    folder.get_file_client("x").create_file(0)
    assert refused(lambda: share.create_directory("a/x")) == (409, "ResourceTypeMismatch")
    assert refused(folder.delete_directory) == (409, "DirectoryNotEmpty")
    for i in range(5):
        folder.get_file_client(f"f{i}").create_file(i)
    pages = [*folder.list_directories_and_files(results_per_page=4).by_page()]
    assert [[item.name for item in page] for page in pages] == [["f0", "f1", "f2", "f3"], ["f4", "x"]]
    [item] = folder.list_directories_and_files("f3", include=["timestamps", "Etag", "Attributes"])
    assert (item.size, item.file_attributes) == (3, "Archive")
    assert item.etag == folder.get_file_client("f3").get_file_properties().etag
    assert refused(lambda: [*share.list_directories_and_files("none")]) == (404, "ResourceNotFound")


def test_only_signatures_with_a_key_of_the_account_are_accepted(share: ShareClient, account: Account) -> None:
    account.rotate(1)
    assert refused(share.get_share_properties) == (403, "AuthenticationFailed")
    other = ShareClient(URL, "share", credential=account.keys[1])
    other.create_directory("a b", metadata={"b": "1", "ba": "2", "B2": "3"})
    [*other.list_directories_and_files(name_starts_with="a b&c=d+e")]
    account.shared_key_access = False
    assert refused(other.get_share_properties) == (403, "KeyBasedAuthenticationNotPermitted")


def test_a_file_written_by_a_container_is_listed(share: ShareClient, azure_double: AzureDouble) -> None:
    data = os.urandom(1000)
    (azure_double.files.folder(NAME, "share") / "written").write_bytes(data)
    file = share.get_file_client("written")
    assert file.download_file().readall() == data
    assert [(r.start, r.end) for r in file.list_ranges()] == [(0, 999)]
