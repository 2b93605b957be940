"""Credentials and connections of a file share: role, account key, rotation, certificates, lost renames."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files.client import ShareConnection
from nbtoolkit.azure.files.request_limits import ShareLimits
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import AlreadyExists, NotInStore, StoreError
from tests.azure_double import AzureDouble
from tests.azure_double.faults import Reset
from tests.azure_double.share_auth import Account
from tests.azure_double.share_setup import ACCOUNT, SHARE
from tests.support.file_share import take_requests


def test_with_the_role_no_account_key_is_read(
    azure_double: AzureDouble, found: ResourceNames, account: Account
) -> None:
    account.backup_role = True
    account.shared_key_access = False
    store = AzureShare(Cloud(), found)
    store.write("file", b"content")
    assert store.read("file") == b"content"
    assert not [seen for seen in azure_double.requests if "listKeys" in seen.path]


def test_without_the_role_the_key_is_read_once_without_warnings(
    azure_double: AzureDouble, found: ResourceNames, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = Cloud()
    threads = [threading.Thread(target=AzureShare(cloud, found).list, args=("",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    AzureShare(cloud, found).list("")
    assert [seen.status for seen in azure_double.requests if "listKeys" in seen.path] == [200]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_rotated_key_is_read_again_once(
    azure_double: AzureDouble, store: AzureShare, account: Account
) -> None:
    account.rotate(0)
    account.rotate(1)
    store.write("a/file", b"after")
    assert store.read("a/file") == b"after"
    assert len([seen for seen in azure_double.requests if "listKeys" in seen.path]) == 1


def test_the_key_appears_nowhere(
    azure_double: AzureDouble, found: ResourceNames, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = AzureShare(Cloud(), found)
    store.write("file", b"x")
    with pytest.raises(StoreError) as caught:
        store.read("nothing")
    reported = [
        repr(store),
        repr(vars(store)),
        str(caught.value),
        *caught.value._render_traceback_(),
        caplog.text,
    ]
    reported.append(Path(reported[-2].partition(": ")[2]).read_text())
    assert not [text for text in reported for key in account.keys if key in text]


def test_an_account_without_role_and_key_permission_gets_both_next_steps(
    azure_double: AzureDouble, found: ResourceNames
) -> None:
    azure_double.arm.permissions.forbid("Microsoft.Storage/storageAccounts/listKeys/action")
    with pytest.raises(StoreError, match="neither use the data") as caught:
        AzureShare(Cloud(), found).list("")
    assert "Storage File Data Privileged Contributor" in caught.value.next_step
    assert "listKeys" in caught.value.next_step


@pytest.mark.parametrize(
    ("harm", "cause", "step"),
    [
        (lambda double, account: setattr(account, "firewall", True), "firewall", "Networking"),
        (lambda double, account: setattr(account, "shared_key_access", False), "no account keys", "role"),
        (lambda double, account: double.files.remove_share(ACCOUNT, SHARE), "does not exist", "provision"),
        (lambda double, account: setattr(double.files.share(ACCOUNT, SHARE), "limit", 3), "is full", "quota"),
    ],
    ids=["firewall", "no keys", "no share", "full"],
)
def test_a_refusal_of_the_share_names_cause_and_next_step(
    azure_double: AzureDouble,
    found: ResourceNames,
    account: Account,
    harm: Callable[[AzureDouble, Account], object],
    cause: str,
    step: str,
) -> None:
    harm(azure_double, account)
    with pytest.raises(StoreError, match=cause) as caught:
        AzureShare(Cloud(), found).write("file", b"content")
    assert step in caught.value.next_step
    assert SHARE in str(caught.value)


def test_a_request_after_close_opens_new_connections(store: AzureShare) -> None:
    store.write("a/file", b"x")
    session = store._connection._transport.session
    session.close()  # as another thread that is done with this share may do
    assert store.read("a/file") == b"x"
    store._connection.close()
    assert store.read("a/file") == b"x"


def test_a_share_with_an_unknown_certificate_is_not_trusted(
    azure_double: AzureDouble, found: ResourceNames, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloud, limits = Cloud(), ShareLimits(retry_unreachable=1)
    AzureShare(cloud, found, limits).list("")  # signed in
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    ShareConnection.shared(cloud, found, limits).close()
    azure_double.requests.clear()
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        AzureShare(cloud, found, limits).list("")
    assert take_requests(azure_double) == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    ShareConnection.shared(cloud, found, limits).close()
    with pytest.raises(StoreError, match=r"missing.pem cannot be loaded: No such file"):
        AzureShare(cloud, found, limits).list("")


def test_a_rename_with_a_lost_response_is_verified(azure_double: AzureDouble, store: AzureShare) -> None:
    store.write("a/old", b"old")
    azure_double.faults.on("PUT", "a/new", Reset("lost"))
    store.rename("a/old", "a/new")
    assert store.read("a/new") == b"old"

    store.write("a/mine", b"mine")
    azure_double.faults.on("PUT", "a/new", Reset("before"))
    with pytest.raises(AlreadyExists, match="a/new already exists"):
        store.rename("a/mine", "a/new")
    assert store.read("a/mine") == b"mine"
    assert store.read("a/new") == b"old"

    azure_double.faults.on("PUT", "a/other", Reset("before"))
    with pytest.raises(NotInStore, match="a/gone"):
        store.rename("a/gone", "a/other")
