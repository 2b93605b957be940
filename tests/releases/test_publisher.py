"""Staging and publishing a release."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import struct
import threading
from pathlib import Path

import pytest

from nbtoolkit.errors import NotInStore, ReleaseChanged, StoreError, SyncRefused
from nbtoolkit.filestore import LocalFolder, make_folders, temp_files
from nbtoolkit.models.adapter import Adapter
from nbtoolkit.releases import publisher
from nbtoolkit.releases.staging import custom_server_sha256
from nbtoolkit.serving import content_hash, share_layout
from nbtoolkit.serving.release import Release, ServedAdapter, ServedBase, ServedCode

SHA = "0" * 64


def write_adapter(folder: Path, fill: int = 1) -> Adapter:
    """A folder with a configuration and one small tensor."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + bytes([fill]) * 256
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return Adapter.read(folder)


def write_code(folder: Path) -> Path:
    (folder / "front").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text("print('serving')\n")
    (folder / "front" / "page.html").write_text("<p>hello</p>")
    return folder


def release_of(adapters: dict[str, Adapter], code: Path, reports: dict[str, str] | None = None) -> Release:
    return Release(
        base=ServedBase(name="tiny", path="model-cache/tiny", sha256=SHA),
        adapters=tuple(
            ServedAdapter(name=name, path=share_layout.adapter_path(a.sha256), sha256=a.sha256, rank=2)
            for name, a in adapters.items()
        ),
        code=ServedCode(sha256=content_hash.code_sha256(code)),
        reports=reports or {},
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path / "share")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return write_code(tmp_path / "code")


def staged(store: LocalFolder, adapter: Adapter, code: Path, name: str = "tone") -> Release:
    release = release_of({name: adapter}, code)
    publisher.stage_release(store, release, {name: adapter}, code)
    return release


def test_a_staged_release_is_complete_under_its_hashes_and_not_public(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "tone")
    report = tmp_path / "report.json"
    report.write_text('{"green": true}')
    report_sha256 = hashlib.sha256(report.read_bytes()).hexdigest()
    release = release_of({"tone": adapter}, code, {"tone": report_sha256})

    result = publisher.stage_release(store, release, {"tone": adapter}, code, {"tone": report})

    assert result.sent_files == 2 + 3 + 1 + 1
    assert content_hash.adapter_sha256(store.root / release.adapters[0].path) == adapter.sha256
    there = store.root / share_layout.code_path(release.code.sha256) / share_layout.CODE_PACKAGE
    assert content_hash.code_sha256(there) == release.code.sha256
    assert store.read(share_layout.report_path(report_sha256)) == report.read_bytes()
    assert publisher.read_release(store, release.id) == release
    assert publisher.active_pointer(store) is None


def test_an_unchanged_stage_sends_nothing(store: LocalFolder, code: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "tone")
    release = staged(store, adapter, code)

    again = publisher.stage_release(store, release, {"tone": adapter}, code)

    assert (again.sent_files, again.sent_bytes) == (0, 0)
    assert again.skipped_files == 2 + 3 + 1


def test_second_release_sends_only_the_second_adapter(store: LocalFolder, code: Path, tmp_path: Path) -> None:
    one, two = write_adapter(tmp_path / "one", 1), write_adapter(tmp_path / "two", 2)
    staged(store, one, code)
    both = {"one": one, "two": two}

    result = publisher.stage_release(store, release_of(both, code), both, code)

    assert result.sent_files == 2 + 1  # its files, and the release


def test_an_adapter_that_changed_since_the_release_was_built_is_refused(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "tone")
    release = release_of({"tone": adapter}, code)
    weights = adapter.weights.read_bytes()
    adapter.weights.write_bytes(weights[:-1] + b"!")

    with pytest.raises(SyncRefused, match="changed since the release was built"):
        publisher.stage_release(store, release, {"tone": adapter}, code)
    assert store.list(release.adapters[0].path) == []
    assert store.list(share_layout.RELEASES) == []


def test_code_and_report_that_changed_are_refused(store: LocalFolder, code: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "tone")
    report = tmp_path / "report.json"
    report.write_text("{}")
    release = release_of({"tone": adapter}, code, {"tone": SHA})
    with pytest.raises(SyncRefused, match=r"smoke report .*report.json changed"):
        publisher.stage_release(store, release, {"tone": adapter}, code, {"tone": report})

    release = release_of({"tone": adapter}, code)
    (code / "__main__.py").write_text("print('another')\n")
    with pytest.raises(SyncRefused, match="The code in"):
        publisher.stage_release(LocalFolder(tmp_path / "other"), release, {"tone": adapter}, code)


def test_adapter_used_in_place_must_exist_and_is_never_written(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    path = "models/run-1/adapter"
    adapter = write_adapter(store.root / path)
    served = ServedAdapter(name="tone", path=path, sha256=adapter.sha256, rank=2)
    release = release_of({}, code).model_copy(update={"adapters": (served,)})

    publisher.stage_release(store, release, {}, code)
    assert store.list(share_layout.ADAPTERS) == []

    shutil.rmtree(store.root / path)
    with pytest.raises(NotInStore, match=path):
        publisher.stage_release(store, release, {}, code)


def test_custom_server_is_uploaded_to_its_folder_without_deletes(store: LocalFolder, tmp_path: Path) -> None:
    own = tmp_path / "inference"
    own.mkdir()
    (own / "server.py").write_text("one")
    (own / ".env").write_text("SECRET=1")
    make_folders(store, "inference")
    store.write("inference/theirs.txt", b"left by fine-tuning")

    def deploy() -> int:
        served = ServedCode(kind="own", sha256=custom_server_sha256(own), commands=("python server.py",))
        return publisher.stage_release(store, Release(base=None, code=served), {}, own).sent_files

    assert deploy() == 2
    assert [e.name for e in store.list("inference")] == ["server.py", "theirs.txt"]
    (own / "server.py").write_text("two")  # the same size
    assert deploy() == 2
    assert store.read("inference/server.py") == b"two"
    assert deploy() == 0


def test_a_release_that_was_edited_on_the_share_is_an_error(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "tone")
    release = staged(store, adapter, code)
    path = share_layout.release_path(release.id)
    store.write(path, store.read(path).replace(b"tiny", b"tidy"))

    with pytest.raises(StoreError, match="but has other content"):
        publisher.stage_release(store, release, {"tone": adapter}, code)
    with pytest.raises(StoreError, match="holds r-"):
        publisher.read_release(store, release.id)


def test_pointers_count_up_and_the_highest_valid_one_is_active(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    one = staged(store, write_adapter(tmp_path / "one", 1), code)
    two = staged(store, write_adapter(tmp_path / "two", 2), code)
    publisher.publish_release(store, one.id, expected=0, by="ada")
    second = publisher.publish_release(store, two.id, expected=1, by="ada")
    assert publisher.active_pointer(store) == second

    store.write(share_layout.pointer_path(3), b"{broken")
    store.write(share_layout.pointer_path(9), second.model_dump_json().encode())  # says it is number 2
    store.write(f"{share_layout.ACTIVE}/notes.txt", b"")
    assert publisher.active_pointer(store) == second
    assert [p.n for p in publisher.pointer_history(store)] == [1, 2]

    back = publisher.publish_release(store, one.id, expected=2, by="ada")
    assert (back.n, back.release) == (10, one.id)  # above the invalid ones, which stay unchanged
    assert publisher.active_pointer(store) == back


def test_loser_of_a_race_gets_the_winners_name(store: LocalFolder, code: Path, tmp_path: Path) -> None:
    one = staged(store, write_adapter(tmp_path / "one", 1), code)
    two = staged(store, write_adapter(tmp_path / "two", 2), code)
    publisher.publish_release(store, one.id, expected=0, by="ada@lovelace:/home/ada/tones")

    with pytest.raises(ReleaseChanged, match="ada@lovelace:/home/ada/tones published") as caught:
        publisher.publish_release(store, two.id, expected=0, by="bob")
    assert vars(caught.value)["by"] == "ada@lovelace:/home/ada/tones"
    assert vars(caught.value)["release"] == one.id
    assert [p.n for p in publisher.pointer_history(store)] == [1]


def test_only_a_staged_release_can_be_published(store: LocalFolder) -> None:
    with pytest.raises(NotInStore, match="no release r-123456789abc"):
        publisher.publish_release(store, "r-123456789abc", expected=0, by="ada")
    assert publisher.active_pointer(store) is None


def test_temporary_files_of_killed_publishers_only_are_deleted(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    release = staged(store, write_adapter(tmp_path / "one"), code)
    publisher.publish_release(store, release.id, expected=0, by="ada")
    living = temp_files.temp_name()
    fields = living.split("-")
    fields[2] = "4194999"  # a pid beyond Linux's highest
    dead = "-".join(fields)
    assert temp_files.is_abandoned(dead)
    for name in (living, dead):
        store.write(f"{share_layout.ACTIVE}/{name}", b"")

    publisher.active_pointer(store)
    assert [e.name for e in store.list(share_layout.ACTIVE)] == [living, "1.json"]


ROUNDS = 6


def _race(root: Path, ids: list[str], by: str, barrier, results) -> None:
    """Publish concurrently in rounds; report the winners."""
    store = LocalFolder(root)
    for n, release_id in zip(range(ROUNDS), ids, strict=False):
        barrier.wait(60)
        try:
            pointer = publisher.publish_release(store, release_id, expected=n, by=by)
            results.put((n, by, pointer.n, None))
        except ReleaseChanged as error:
            results.put((n, by, None, vars(error)["by"]))
        barrier.wait(60)


def test_exactly_one_concurrent_publisher_wins_each_number(
    store: LocalFolder, code: Path, tmp_path: Path
) -> None:
    ids = [staged(store, write_adapter(tmp_path / str(n), n + 1), code).id for n in range(ROUNDS)]
    context = multiprocessing.get_context("spawn")
    processes, threads = 3, 8
    with context.Manager() as manager:
        barrier = manager.Barrier(processes + threads)
        results = manager.Queue()
        racers = [
            context.Process(target=_race, args=(store.root, ids, f"process-{i}", barrier, results))
            for i in range(processes)
        ]
        racers += [
            threading.Thread(target=_race, args=(store.root, ids, f"thread-{i}", barrier, results))
            for i in range(threads)
        ]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(120)
        outcome = [results.get_nowait() for _ in range(ROUNDS * len(racers))]

    pointers = publisher.pointer_history(store)
    assert [p.n for p in pointers] == list(range(1, ROUNDS + 1))
    for n, pointer in enumerate(pointers):
        winners = [(by, number) for round_, by, number, _ in outcome if round_ == n and number]
        assert winners == [(pointer.by, n + 1)]
        assert {winner for round_, _, number, winner in outcome if round_ == n and not number} == {pointer.by}


def test_the_publisher_names_user_host_and_workspace(tmp_path: Path) -> None:
    who = publisher.publisher_name(tmp_path)
    user_and_host, _, folder = who.partition(":")
    assert folder == str(tmp_path)
    assert all(user_and_host.split("@"))


def test_uploaded_server_is_a_package_with_a_main_module() -> None:
    assert (publisher.serving_folder() / "__init__.py").is_file()
    assert "release.py" in content_hash.code_files(publisher.serving_folder())
