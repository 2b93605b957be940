"""Plan and apply a sync to a folder of a store."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from nbtoolkit import sync
from nbtoolkit.errors import Cancelled, StoreError, SyncRefused
from nbtoolkit.filestore import (
    Entry,
    LocalFolder,
    chunked_io,
    make_folders,
    temp_files,
)
from nbtoolkit.filestore.chunked_io import Source
from nbtoolkit.progress import Progress, Sent, silent
from nbtoolkit.sync.plan import MANIFESTS

PREFIX = "nbtoolkit/adapters/abc"


class Counting(LocalFolder):
    """A store that records its calls: each would be a request."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: list[tuple[str, str]] = []

    def list(self, folder: str) -> list[Entry]:
        self.calls.append(("list", folder))
        return super().list(folder)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        self.calls.append(("read", path))
        return super().read(path, offset, length)

    def sha256(self, path: str, passed: Sent = silent) -> str:
        if not temp_files.is_temporary(path.rpartition("/")[2]):  # the store's own verification
            self.calls.append(("sha256", path))
        return super().sha256(path, passed)

    def write(
        self, path: str, source: Source, *, sha256: str = "", overwrite: bool = True, sent: Sent = silent
    ) -> str:
        self.calls.append(("write", path))
        return super().write(path, source, sha256=sha256, overwrite=overwrite, sent=sent)

    def make_folder(self, path: str) -> None:
        self.calls.append(("make_folder", path))
        super().make_folder(path)

    def taken(self) -> Counter[str]:
        """Return the number of calls of each method since the last call."""
        counts = Counter(kind for kind, _ in self.calls)
        self.calls.clear()
        return counts


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "share")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    for name in ("a.txt", "sub/b.txt", "sub/deep/c.txt", "other/d.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_first_sync_sends_all_and_makes_each_folder_once_parents_first(
    store: Counting, folder: Path
) -> None:
    result = sync.sync(folder, store, PREFIX, content_addressed=True)

    assert (result.sent_files, result.skipped_files) == (4, 0)
    assert result.sent_bytes == sum(len(c) for c in contents(folder).values())
    assert contents(store.root / PREFIX) == contents(folder)
    made = [path for kind, path in store.calls if kind == "make_folder"]
    assert made[:3] == ["nbtoolkit", "nbtoolkit/adapters", PREFIX]
    assert sorted(made[3:]) == [f"{PREFIX}/other", f"{PREFIX}/sub", f"{PREFIX}/sub/deep"]
    assert made.index(f"{PREFIX}/sub") < made.index(f"{PREFIX}/sub/deep")


def test_an_unchanged_sync_costs_one_listing_per_folder_and_nothing_else(
    store: Counting, folder: Path
) -> None:
    sync.sync(folder, store, PREFIX, content_addressed=True)
    store.taken()
    result = sync.sync(folder, store, PREFIX, content_addressed=True)
    assert (result.sent_files, result.sent_bytes, result.skipped_files) == (0, 0, 4)
    assert store.taken() == {"list": 4}

    sync.sync(folder, store, "inference")
    store.taken()
    result = sync.sync(folder, store, "inference")
    assert (result.sent_files, result.sent_bytes, result.skipped_files) == (0, 0, 4)
    assert store.taken() == {"list": 4, "read": 1}  # the manifest


def test_two_thousand_unchanged_files_cost_only_listings(store: Counting, tmp_path: Path) -> None:
    many = tmp_path / "many"
    for i in range(2000):
        file = many / f"{i % 20}" / f"{i}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(i))
    assert sync.sync(many, store, "inference").sent_files == 2000
    store.taken()
    result = sync.sync(many, store, "inference")
    assert (result.sent_files, result.skipped_files) == (0, 2000)
    assert store.taken() == {"list": 21, "read": 1}


def test_a_plan_changes_nothing_and_lists_missing_files(store: Counting, folder: Path) -> None:
    first = sync.plan(folder, store, PREFIX, content_addressed=True)
    assert not store.root.exists()
    assert [file.name for file in first.missing] == ["a.txt", "other/d.txt", "sub/b.txt", "sub/deep/c.txt"]
    assert first.bytes_missing == first.bytes_total > 0

    sync.apply(first, store)
    (folder / "sub" / "new.txt").write_text("x" * 1500)
    second = sync.plan(folder, store, PREFIX, content_addressed=True)
    assert [file.name for file in second.missing] == ["sub/new.txt"]
    assert second.bytes_missing == 1500
    assert str(second).splitlines() == [
        f"{PREFIX}: 1 of 5 files to send, 1.5 kB of 1.6 kB",
        "  send    sub/new.txt  1.5 kB",
    ]
    sync.apply(second, store)
    there = sync.plan(folder, store, PREFIX, content_addressed=True)
    assert str(there) == f"{PREFIX}: nothing to send, 5 files there (1.6 kB)"


def test_a_long_plan_is_cut_and_its_html_is_escaped(store: Counting) -> None:
    files: dict[str, Source] = {f"{i:02}&amp.txt": b"x" for i in range(30)}
    planned = sync.plan(files, store, "inference")
    assert len(str(planned).splitlines()) == 11
    assert str(planned).endswith("and 21 more")
    html = planned._repr_html_()
    assert "00&amp;amp.txt" in html
    assert html.count("<tr>") == 10


def test_a_change_of_equal_size_is_sent_and_nothing_else(store: Counting, folder: Path) -> None:
    sync.sync(folder, store, "inference")
    text = (folder / "a.txt").read_text()
    about = (folder / "a.txt").stat()
    (folder / "a.txt").write_text(text.upper())
    os.utime(folder / "a.txt", ns=(about.st_atime_ns, about.st_mtime_ns))  # as an archive tool does
    store.taken()

    planned = sync.plan(folder, store, "inference")
    assert [(f.name, f.replaces) for f in planned.missing] == [("a.txt", True)]
    assert "replace a.txt" in str(planned)
    assert sync.apply(planned, store).sent_files == 1
    assert store.read("inference/a.txt").decode() == text.upper()
    assert store.taken()["sha256"] == 0


def test_a_file_edited_on_the_share_is_replaced(store: Counting, folder: Path) -> None:
    sync.sync(folder, store, "inference")
    store.write("inference/a.txt", b"x" * (folder / "a.txt").stat().st_size)
    assert sync.sync(folder, store, "inference").sent_files == 1
    assert contents(store.root / "inference") == contents(folder)


def test_without_its_manifest_contents_are_compared_and_not_sent_again(store: Counting, folder: Path) -> None:
    sync.sync(folder, store, "inference")
    [saved] = store.list(MANIFESTS)
    for broken in (b"{not json", b'{"prefix": "elsewhere"}'):
        store.write(f"{MANIFESTS}/{saved.name}", broken)
        store.taken()
        assert sync.sync(folder, store, "inference").sent_files == 0
        assert store.taken()["sha256"] == 4
    assert sync.sync(folder, store, "inference").sent_files == 0
    assert store.taken()["sha256"] == 0  # the manifest was written again


def test_a_file_of_another_size_in_a_content_addressed_folder_is_replaced(
    store: Counting, folder: Path
) -> None:
    sync.sync(folder, store, PREFIX, content_addressed=True)
    store.write(f"{PREFIX}/a.txt", b"torn")
    planned = sync.plan(folder, store, PREFIX, content_addressed=True)
    assert [(f.name, f.replaces) for f in planned.missing] == [("a.txt", True)]
    sync.apply(planned, store)
    assert contents(store.root / PREFIX) == contents(folder)


def test_extra_files_are_deleted_only_with_delete_extra_and_below_the_prefix(
    store: Counting, folder: Path
) -> None:
    sync.sync(folder, store, "inference")
    make_folders(store, "inference/old/deep")
    make_folders(store, "inference-2")
    for path in ("inference/extra.txt", "inference/sub/extra.txt", "inference/old/deep/x", "inference-2/x"):
        store.write(path, b"extra")
    living = f"inference/{temp_files.temp_name()}"
    store.write(living, b"another deploy writes this")

    assert sync.sync(folder, store, "inference").deleted == 0
    planned = sync.plan(folder, store, "inference", delete_extra=True)
    assert planned.extra_files == ("extra.txt", "sub/extra.txt")
    assert planned.extra_folders == ("old",)
    assert "delete  old/" in str(planned)
    assert sync.apply(planned, store).deleted == 3

    left = contents(store.root / "inference")
    assert left.pop(living.partition("/")[2]) == b"another deploy writes this"
    assert left == contents(folder)
    assert store.read("inference-2/x") == b"extra"


def test_a_folder_with_the_name_of_a_file_is_refused_or_deleted(store: Counting, folder: Path) -> None:
    make_folders(store, "inference/a.txt/below")
    store.write("inference/sub", b"a file where a folder is wanted")
    with pytest.raises(SyncRefused, match=r"'a.txt': is a folder there") as caught:
        sync.plan(folder, store, "inference")
    assert "'sub': is a file there and a folder here" in str(caught.value)

    sync.sync(folder, store, "inference", delete_extra=True)
    assert contents(store.root / "inference") == contents(folder)


def test_bytes_and_files_from_anywhere_can_be_sent(store: Counting, folder: Path) -> None:
    sources: Mapping[str, Source] = {"x/one.json": b"{}", "two.txt": folder / "a.txt"}
    assert sync.sync(sources, store, PREFIX, content_addressed=True).sent_files == 2
    assert contents(store.root / PREFIX) == {
        "x/one.json": b"{}",
        "two.txt": (folder / "a.txt").read_bytes(),
    }


def test_invalid_names_are_refused_before_any_file_is_sent(store: Counting, folder: Path) -> None:
    if os.name == "nt":
        (folder / "aux.").write_text("")
    else:
        (folder / "what?").write_text("")
        (folder / "A.TXT").write_text("")
    with pytest.raises(SyncRefused, match="because of") as caught:
        sync.plan(folder, store, PREFIX)
    assert not store.root.exists()
    if os.name != "nt":
        assert {name for name, _ in vars(caught.value)["problems"]} == {"what?", "a.txt"}
        assert ".nbtoolkitignore" in caught.value.next_step


def test_a_file_that_changes_after_the_plan_is_refused(store: Counting, folder: Path) -> None:
    planned = sync.plan(folder, store, PREFIX, content_addressed=True)
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(text.upper())
    with pytest.raises(SyncRefused, match=r"a.txt changed while it was being sent") as caught:
        sync.apply(planned, store)
    assert "run the step again" in caught.value.next_step
    assert "a.txt" not in [e.name for e in store.list(PREFIX)]
    assert not [p for p in contents(store.root) if ".part" in p]

    (folder / "a.txt").unlink()
    with pytest.raises(SyncRefused, match=r"a.txt cannot be read"):
        sync.apply(planned, store)


def test_temporary_files_of_killed_writers_are_deleted_and_others_stay(store: Counting, folder: Path) -> None:
    sync.sync(folder, store, PREFIX, content_addressed=True)
    living = temp_files.temp_name()
    fields = living.split("-")
    dead = "-".join([*fields[:2], "4194999", *fields[3:]])
    for name in (living, f"sub/{dead}"):
        store.write(f"{PREFIX}/{name}", b"half")
    result = sync.sync(folder, store, PREFIX, content_addressed=True)
    assert result.sent_files == 0
    assert set(contents(store.root / PREFIX)) - set(contents(folder)) == {living}

    make_folders(store, MANIFESTS)
    store.write(f"{MANIFESTS}/{dead}", b"half")
    sync.sync(folder, store, "inference")
    assert [entry.name for entry in store.list(MANIFESTS)] == ["inference.json"]


def test_a_file_that_is_missing_after_the_upload_raises(store: Counting, folder: Path) -> None:
    class Losing(Counting):
        def write(self, path: str, *args, **kwargs) -> str:
            written = super().write(path, *args, **kwargs)
            if path.endswith("b.txt"):
                self.delete(path)
            return written

    with pytest.raises(StoreError, match=r"lacks sub/b.txt"):
        sync.sync(folder, Losing(store.root), PREFIX)


class Slow(LocalFolder):
    """A store that needs 50 ms for every chunk."""

    def write(self, path: str, source: Source, *, sent: Sent = silent, **kwargs) -> str:
        def slowly(count: int) -> None:
            time.sleep(0.05)
            sent(count)

        return super().write(path, source, sent=slowly, **kwargs)


class Recording(Progress):
    """Record the reported progress; cancel after ``cancel_at`` bytes."""

    def __init__(self, cancel_at: int | None = None) -> None:
        super().__init__()
        self.reported: list[tuple[float, float | None, str]] = []
        self.phases: list[str] = []
        self.threads: set[int] = set()
        self.cancel_at = cancel_at

    def show(self, text: str) -> None:
        self.phases.append(text)

    def show_advance(self, done: float, total: float | None, unit: str) -> None:
        self.threads.add(threading.get_ident())
        if not self.phases:
            return  # planning
        self.reported.append((done, total, unit))
        if self.cancel_at is not None and done >= self.cancel_at:
            self.cancel()


def test_progress_reports_bytes_from_the_calling_thread(store: Counting, tmp_path: Path) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(4 * chunked_io.CHUNK))
    progress = Recording()
    sync.sync({"big.bin": big, "small": b"x"}, Slow(store.root), PREFIX, progress=progress)
    total = 4 * chunked_io.CHUNK + 1
    assert progress.phases == [f"Sending 2 files to {PREFIX} (16.8 MB)"]
    assert {(t, unit) for _, t, unit in progress.reported if t} == {(total, "B")}
    assert max(done for done, t, _ in progress.reported if t) == total
    assert progress.threads == {threading.get_ident()}


def test_a_cancelled_sync_leaves_no_temporary_file_and_is_continued(store: Counting, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    with (folder / "big.whl").open("wb") as big:
        big.truncate(40 * chunked_io.CHUNK)  # two seconds at Slow's pace; a cancel is seen after a quarter
    for i in range(30):
        (folder / f"{i}.whl").write_bytes(bytes([i]))
    progress = Recording(cancel_at=1)
    planned = sync.plan(folder, store, PREFIX, content_addressed=True)

    with pytest.raises(Cancelled, match="Sending 31 files"):
        sync.apply(planned, Slow(store.root), progress, workers=4)

    finished = set(contents(store.root / PREFIX))
    assert finished < {path.name for path in folder.iterdir()}
    assert "big.whl" not in finished
    store.taken()
    result = sync.sync(folder, store, PREFIX, content_addressed=True)
    assert result.sent_files == 31 - len(finished)
    assert not {path for kind, path in store.calls if kind == "write"} & {f"{PREFIX}/{f}" for f in finished}


def test_a_hanging_write_does_not_delay_a_cancel(store: Counting) -> None:
    hanging = threading.Event()

    class Hanging(LocalFolder):
        def write(self, path: str, source: Source, **kwargs) -> str:
            hanging.wait(30)
            return super().write(path, source, **kwargs)

    progress = Recording()
    threading.Timer(0.2, progress.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        sync.sync({"a": b"a", "b": b"b"}, Hanging(store.root), PREFIX, progress=progress)
    assert time.monotonic() - start < 2.5
    assert not [t for t in threading.enumerate() if t.name == "nbtoolkit-pool" and not t.daemon]
    hanging.set()


def test_two_concurrent_syncs_of_the_same_content_succeed(store: Counting, tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.whl").write_bytes(os.urandom(1000))
    plans = [sync.plan(folder, store, PREFIX, content_addressed=True) for _ in range(3)]
    results: list[sync.SyncResult] = []
    threads = [
        threading.Thread(target=lambda p=p: results.append(sync.apply(p, LocalFolder(store.root))))
        for p in plans
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(result.sent_files for result in results) == 40
    assert contents(store.root / PREFIX) == contents(folder)


def test_results_add_up_and_print() -> None:
    both = sync.SyncResult(2, 1500, 3, seconds=0.5) + sync.SyncResult(0, 0, 1, deleted=1, seconds=0.25)
    assert str(both) == "2 files sent (1.5 kB), 4 already there, 1 deleted, 0.8 s"
