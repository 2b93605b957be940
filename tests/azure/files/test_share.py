"""An Azure file share under all that goes wrong: access, throttling, lost answers, interrupted uploads."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from nbtoolkit import sync
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.files import range_upload
from nbtoolkit.azure.files.client import ShareConnection
from nbtoolkit.azure.files.share import AzureShare
from nbtoolkit.errors import AlreadyExists, Cancelled, NotInStore, StoreError, SyncRefused
from nbtoolkit.filestore import chunked_io as streams
from nbtoolkit.filestore import make_folders
from nbtoolkit.filestore import temp_files as temp_names
from nbtoolkit.progress import Progress
from tests.azure_double import AzureDouble, Request, Response
from tests.azure_double.clock import Clock
from tests.azure_double.double import Seen
from tests.azure_double.faults import Broken, Refusing, Reset, Slow, Throttled
from tests.azure_double.http import Body, Handler
from tests.azure_double.share_auth import Account
from tests.azure_double.share_setup import ACCOUNT, SHARE, account_of, provisioned_share

BIG = 2 * streams.CHUNK + 17
LONG = 6 * streams.CHUNK
HOST = f"{ACCOUNT}.file.core.windows.net"


@pytest.fixture
def found(azure_double: AzureDouble) -> ResourceNames:
    return provisioned_share(azure_double)


@pytest.fixture
def account(azure_double: AzureDouble, found: ResourceNames) -> Account:
    return account_of(azure_double, found)


@pytest.fixture
def store(azure_double: AzureDouble, found: ResourceNames) -> AzureShare:
    """A share whose way in is known, so that a test's faults hit what it means."""
    share = AzureShare(Cloud(), found)
    share.make_folder("a")
    azure_double.requests.clear()
    return share


def asked(double: AzureDouble) -> list[Seen]:
    """Return what the share was asked since the last time."""
    seen = [request for request in double.requests if request.host == HOST]
    double.requests.clear()
    return seen


def ranges(double: AzureDouble) -> int:
    return sum(seen.query.get("comp") == "range" for seen in asked(double))


def on_disk(double: AzureDouble) -> Path:
    return double.files.folder(ACCOUNT, SHARE)


def content(size: int = BIG) -> tuple[bytes, str]:
    data = os.urandom(size)
    return data, hashlib.sha256(data).hexdigest()


# Who may


def test_with_the_role_no_key_is_asked_for(
    azure_double: AzureDouble, found: ResourceNames, account: Account
) -> None:
    account.backup_role = True
    account.shared_key_access = False
    store = AzureShare(Cloud(), found)
    store.write("file", b"content")
    assert store.read("file") == b"content"
    assert not [seen for seen in azure_double.requests if "listKeys" in seen.path]


def test_without_the_role_the_key_is_read_once_and_without_noise(
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
    told = [
        repr(store),
        repr(vars(store)),
        str(caught.value),
        *caught.value._render_traceback_(),
        caplog.text,
    ]
    told.append(Path(told[-2].partition(": ")[2]).read_text())
    assert not [text for text in told for key in account.keys if key in text]


def test_who_may_neither_use_the_data_nor_read_keys_is_told_both(
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
def test_a_share_that_refuses_says_why_and_what_to_do(
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


# What goes wrong on the way


SMALL_STEPS = ("create", "rename")
BIG_STEPS = ("look for a part", "create", "range", "range", "range", "rename")


@pytest.mark.parametrize(
    "fault",
    [Throttled(5), Broken(), Reset("before"), Reset("upload"), Reset("lost")],
    ids=["throttled", "500", "before", "upload", "lost"],
)
@pytest.mark.parametrize(("size", "steps"), [(1000, SMALL_STEPS), (BIG, BIG_STEPS)], ids=["small", "big"])
def test_a_write_outlives_faults_at_any_request(
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
        assert len(asked(azure_double)) >= len(steps)
        azure_double.faults.clear()
        assert (on_disk(azure_double) / "a" / step).read_bytes() == data
    assert [e.name for e in store.list("a") if temp_names.is_temporary(e.name)] == []


def re_host() -> str:
    return HOST.replace(".", r"\.")


def test_the_service_is_left_alone_as_long_as_it_asks(azure_double: AzureDouble, store: AzureShare) -> None:
    azure_double.faults.on("GET", re_host(), Throttled(60), times=2)
    start = time.monotonic()
    store.list("a")
    assert 1.2 <= time.monotonic() - start < 5  # twice 60 of the double's seconds
    assert [seen.status for seen in asked(azure_double)] == [503, 503, 200]


@pytest.mark.parametrize("when", ["before", "answer"])
def test_reading_outlives_resets(azure_double: AzureDouble, store: AzureShare, when: str) -> None:
    data, sha256 = content()
    store.write("a/big", data)
    azure_double.faults.on("GET", re_host(), Reset(when), times=3)
    assert store.read("a/big") == data
    azure_double.faults.on("GET", re_host(), Reset(when), nth=3)
    assert store.sha256("a/big") == sha256
    azure_double.faults.on("GET", re_host(), Reset(when))
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_a_rename_whose_answer_was_lost_is_known_by_its_outcome(
    azure_double: AzureDouble, store: AzureShare
) -> None:
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


def test_other_changes_outlive_a_lost_answer(azure_double: AzureDouble, store: AzureShare) -> None:
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
    """Change a byte on the way."""
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
def test_what_is_garbled_on_the_way_is_sent_and_fetched_again(
    azure_double: AzureDouble, store: AzureShare, size: int
) -> None:
    data, _ = content(size)
    sent = azure_double.faults.on("PUT", r"\.part", garbled, nth=1 if size == 1000 else 3)
    store.write("a/file", data)
    assert sent.hits == 1
    assert [seen.status for seen in asked(azure_double)].count(400) == 1
    fetched = azure_double.faults.on("GET", "a/file", garbled)
    assert store.read("a/file") == data
    assert fetched.hits == 1


def test_a_service_that_stays_away_is_named_with_what_to_do(
    azure_double: AzureDouble, store: AzureShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbtoolkit.azure.files import retry_policy

    monkeypatch.setattr(retry_policy, "RETRY_TIMEOUT", 1)
    monkeypatch.setattr(retry_policy, "UNREACHABLE_TIMEOUT", 1)
    azure_double.faults.on("GET", re_host(), Broken(503, "ServerBusy"), times=100)
    with pytest.raises(StoreError, match="throttling") as caught:
        store.list("a")
    assert "wait" in caught.value.next_step
    azure_double.faults.clear()
    azure_double.faults.on("GET", re_host(), Reset("before"), times=100)
    with pytest.raises(StoreError, match="no complete response") as caught:
        store.list("a")
    assert "HTTPS_PROXY" in caught.value.next_step


def test_what_is_asked_after_the_connections_were_closed_opens_new_ones(store: AzureShare) -> None:
    store.write("a/file", b"x")
    session = store._connection._transport.session
    session.close()  # as another thread that is done with this share may do
    assert store.read("a/file") == b"x"
    store._connection.close()
    assert store.read("a/file") == b"x"


def test_a_share_with_an_unknown_certificate_is_not_trusted(
    azure_double: AzureDouble, found: ResourceNames, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nbtoolkit.azure.files import retry_policy

    monkeypatch.setattr(retry_policy, "UNREACHABLE_TIMEOUT", 1)
    cloud = Cloud()
    AzureShare(cloud, found).list("")  # signed in
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    ShareConnection.shared(cloud, found).close()
    azure_double.requests.clear()
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
        AzureShare(cloud, found).list("")
    assert asked(azure_double) == []

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    ShareConnection.shared(cloud, found).close()
    with pytest.raises(StoreError, match=r"missing.pem cannot be loaded: No such file"):
        AzureShare(cloud, found).list("")


def test_what_a_replica_holds_open_is_waited_for_a_moment(
    azure_double: AzureDouble, store: AzureShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbtoolkit.azure.files import retry_policy

    azure_double.faults.on("PUT", "a/file", Refusing(409, "SharingViolation"), times=2)
    store.write("a/file", b"x")
    monkeypatch.setattr(retry_policy, "IN_USE_TIMEOUT", 0.5)
    azure_double.faults.on("PUT", "a/file", Refusing(409, "SharingViolation"), times=100)
    with pytest.raises(StoreError, match="holds it open"):
        store.write("a/file", b"y")


def test_a_file_that_is_replaced_while_it_is_read_is_never_mixed(
    azure_double: AzureDouble, store: AzureShare
) -> None:
    store.write("a/big", bytes(BIG))

    def replace(request: Request, serve: Handler, clock: Clock) -> Response:
        store.write("a/big", b"\1" * BIG)
        return serve(request)

    azure_double.faults.on("GET", "a/big", replace, nth=2)
    with pytest.raises(StoreError, match="replaced while it was read"):
        store.read("a/big")


# Cancel


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


# Going on


def interrupted(double: AzureDouble, store: AzureShare, data: bytes, sha256: str) -> None:
    """Write until the service refuses after a few ranges."""
    double.faults.on("PUT", r"\.part", Refusing(403, "AuthorizationFailure"), nth=4, times=100)
    with pytest.raises(StoreError, match="firewall"):
        store.write("a/big", data, sha256=sha256)
    time.sleep(0.3)  # ranges that are under way end
    double.faults.clear()
    double.requests.clear()


def test_a_failed_upload_is_gone_on_with(azure_double: AzureDouble, store: AzureShare) -> None:
    data, sha256 = content(LONG)
    interrupted(azure_double, store, data, sha256)
    [left] = store.list("a")
    assert temp_names.is_partial_upload_of(left.name, sha256)

    told: list[int] = []
    assert store.write("a/big", data, sha256=sha256, sent=told.append) == sha256
    assert sum(told) == LONG  # progress tells the whole file
    assert 0 < ranges(azure_double) < 6
    assert store.sha256("a/big") == sha256
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_other_content_is_never_gone_on_with(azure_double: AzureDouble, store: AzureShare) -> None:
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
    azure_double: AzureDouble, store: AzureShare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_upload, "MAX_IN_FLIGHT", 2)
    planned, sha256 = content(LONG)
    changed = planned[: streams.CHUNK] + os.urandom(LONG - streams.CHUNK)
    interrupted(azure_double, store, changed, sha256)  # before it was read to its end
    told: list[int] = []
    assert store.write("a/big", planned, sha256=sha256, sent=told.append) == sha256
    assert sum(told) == LONG
    assert store.read("a/big") == planned
    assert [entry.name for entry in store.list("a")] == ["big"]


def test_two_writers_of_the_same_content_leave_each_other_alone(store: AzureShare) -> None:
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
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.files.share import AzureShare
store = AzureShare(Cloud(), ResourceNames(*sys.argv[2:7]))
print("begin", flush=True)
sync.sync(Path(sys.argv[1]), store, "a/adapter", content_addressed=True)
"""


def test_a_killed_upload_is_gone_on_with_by_the_next_sync(
    azure_double: AzureDouble, store: AzureShare, found: ResourceNames, tmp_path: Path
) -> None:
    data, sha256 = content(16 * streams.CHUNK)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(data)
    (folder / "config.json").write_bytes(b"{}")
    azure_double.faults.on("PUT", r"\.part", Slow(20), nth=4, times=1000)
    names = (found.subscription, found.resource_group, found.storage_account, found.file_share, found.app)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), *names], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while sum(seen.query.get("comp") == "range" for seen in azure_double.requests) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    azure_double.faults.clear()
    time.sleep(0.3)  # what is under way on the double ends

    planned = sync.plan(folder, store, "a/adapter", content_addressed=True)
    assert "model.safetensors" in [file.name for file in planned.missing]
    assert [name for name in planned.leftovers if temp_names.is_partial_upload_of(name, sha256)] == []
    asked(azure_double)
    sync.apply(planned, store)
    assert 0 < ranges(azure_double) <= 16 - 3
    assert store.sha256("a/adapter/model.safetensors") == sha256
    assert [entry.name for entry in store.list("a/adapter")] == ["config.json", "model.safetensors"]


# Many files


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
def test_an_unchanged_sync_asks_once_for_each_folder_and_writes_nothing(
    azure_double: AzureDouble, store: AzureShare, tmp_path: Path, count: int, content_addressed: bool
) -> None:
    folder = tree(tmp_path / "many", count, folders=10)
    first = sync.sync(folder, store, "a/many", content_addressed=content_addressed)
    assert first.sent_files == count
    writes = [seen for seen in asked(azure_double) if seen.method != "GET"]
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
    time.sleep(0.5)  # what was under way ends
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
    asked(azure_double)
    assert [entry.name for entry in store.list("a")] == [f"{i:02}" for i in range(20)]
    assert len(asked(azure_double)) == 3


def test_an_edited_file_has_another_version(azure_double: AzureDouble, store: AzureShare) -> None:
    store.write("a/file", b"one")
    [before] = store.list("a")
    assert before.version
    (on_disk(azure_double) / "a" / "file").write_bytes(b"two")  # as a mount writes
    [after] = store.list("a")
    assert after.size == before.size
    assert after.version != before.version
