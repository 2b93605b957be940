"""Which files of a folder are sent, ignored or refused."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nbtoolkit.errors import SyncRefused
from nbtoolkit.sync import name_rules
from nbtoolkit.sync.scan import IGNORE_FILE, IgnoreRules, check_files, scan_folder
from tests.support.sick_adapters import hub_snapshot

links = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def fill(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def sent(folder: Path) -> list[str]:
    return sorted(scan_folder(folder))


def problems_of(folder: Path) -> dict[str, str]:
    with pytest.raises(SyncRefused) as caught:
        scan_folder(folder)
    found = dict(vars(caught.value)["problems"])
    assert all(repr(name) in str(caught.value) for name in found)  # the full list is shown
    return found


def test_secrets_caches_and_training_state_are_ignored(tmp_path: Path) -> None:
    home = [
        ".git/config",
        ".env",
        ".env.local",
        "deep/.env",
        "server.pem",
        "server.key",
        "id_rsa",
        "id_ed25519",
        ".ssh/known_hosts",
        ".netrc",
        "__pycache__/a.cpython-311.pyc",
        "sub/__pycache__/b.pyc",
        ".ipynb_checkpoints/a.ipynb",
        ".cache/huggingface/x",
        ".venv/lib/python/site.py",
        "node_modules/x/index.js",
        "optimizer.pt",
        "optimizer.bin",
        "scheduler.pt",
        "training_args.bin",
        "trainer_state.json",
        "rng_state_0.pth",
        "data.pkl",
        "old.pickle",
        "adapter_model.bin",
        ".nbtoolkit/state.json",
        ".DS_Store",
        IGNORE_FILE,
    ]
    sends = ["server.py", "optimizer.py", "requirements.txt", "sub/page.html", ".env.example", "id_rsa.pub"]
    fill(tmp_path, *home, *sends)
    (tmp_path / IGNORE_FILE).write_text("")
    assert sent(tmp_path) == sorted(sends)


def test_the_ignore_file_excludes_and_includes(tmp_path: Path) -> None:
    fill(tmp_path, "a.py", "a.log", "logs/x.py", "keep/lookup.pkl", "other.pkl", "docs/a.md", "docs/b.md")
    (tmp_path / IGNORE_FILE).write_text(
        "\ufeff# mine\n*.log\n/logs/\n!keep/lookup.pkl\ndocs/*\n!docs/b.md\n", "utf-8"
    )
    assert sent(tmp_path) == ["a.py", "docs/b.md", "keep/lookup.pkl"]


def test_an_ignore_file_that_includes_a_secret_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.py", ".env", "sub/server.key", ".git/config", ".ENV")
    (tmp_path / IGNORE_FILE).write_text("!.env\n!*.key\n!.git\n")
    found = problems_of(tmp_path)
    assert set(found) == {".env", "sub/server.key", ".git/", ".ENV"} or set(found) == {
        ".env",
        "sub/server.key",
        ".git/",
    }  # a file system without case has one .env
    assert all("never sent" in reason for reason in found.values())


def test_an_ignore_file_may_include_a_certificate_and_no_private_key(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n")
    (tmp_path / IGNORE_FILE).write_text("!*.pem\n")
    assert sent(tmp_path) == ["ca.pem"]
    (tmp_path / "both.PEM").write_text("x\n-----BEGIN RSA PRIVATE KEY-----\nMII\n")
    assert problems_of(tmp_path) == {"both.PEM": "holds a private key, which is never sent"}


def test_a_broken_ignore_file_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_text("*.log\n!\n")
    with pytest.raises(SyncRefused, match=rf"{IGNORE_FILE}, line 2: '!'"):
        scan_folder(tmp_path)
    (tmp_path / IGNORE_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SyncRefused, match=f"{IGNORE_FILE} cannot be read"):
        scan_folder(tmp_path)


def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(SyncRefused, match="is not a folder"):
        scan_folder(tmp_path / "file")
    with pytest.raises(SyncRefused, match="does not exist"):
        scan_folder(tmp_path / "nothing")


@links
def test_links_inside_the_folder_are_followed(tmp_path: Path) -> None:
    fill(tmp_path, "real/a.txt", "b.txt")
    (tmp_path / "again").symlink_to("real")
    (tmp_path / "c.txt").symlink_to(tmp_path / "b.txt")
    files = scan_folder(tmp_path)
    assert sorted(files) == ["again/a.txt", "b.txt", "c.txt", "real/a.txt"]
    assert files["c.txt"].read_text() == "b.txt"


@links
def test_junctions_are_detected_by_their_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = fill(tmp_path / "outside", "passwords")
    folder = fill(tmp_path / "folder", "sub/a.txt", ".ssh/id")
    (folder / "out").symlink_to(outside)
    (folder / "keys").symlink_to(".ssh")
    (folder / "again").symlink_to("sub")
    monkeypatch.setattr(Path, "is_symlink", lambda self: False)  # as of a junction in Python 3.11
    found = problems_of(folder)
    assert sorted(found) == ["keys/", "out/"]
    assert "leaves the folder" in found["out/"]
    with pytest.raises(SyncRefused, match="leaves the folder"):
        check_files({"out/passwords": folder / "out" / "passwords"}, folder)
    (folder / "out").unlink()
    (folder / "keys").unlink()
    assert sent(folder) == ["again/a.txt", "sub/a.txt"]


@links
def test_leaving_broken_and_circular_links_are_refused_in_one_list(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", "passwords", "folder/x").resolve()
    folder = fill(tmp_path / "folder", "fine.py", "sub/fine.py", ".env")
    (folder / "out").symlink_to(outside / "passwords")
    (folder / "out_folder").symlink_to(outside / "folder")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "self").symlink_to("self")
    (folder / "nowhere").symlink_to("missing")
    (folder / "notes").symlink_to(".env")
    (folder / "out.log").symlink_to(outside / "passwords")
    (folder / IGNORE_FILE).write_text("*.log\n")  # ignored files are not checked

    found = problems_of(folder)

    assert set(found) == {"out", "out_folder/", "sub/up/", "self", "nowhere", "notes"}
    assert "leaves the folder" in found["out"]
    assert "leaves the folder" in found["out_folder/"]
    assert "circular link" in found["sub/up/"]
    assert "circular link" in found["self"]
    assert "broken link" in found["nowhere"]
    assert "link to a secret, .env" in found["notes"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders on Windows")
def test_pipes_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        found = problems_of(tmp_path)
    assert set(found) == {"pipe", "socket"}
    assert all("special file" in reason for reason in found.values())


@links
def test_files_chosen_by_name_are_checked_as_well(tmp_path: Path) -> None:
    outside = fill(tmp_path / "blobs", "weights")
    folder = fill(tmp_path / "adapter", "adapter_config.json")
    (folder / "adapter_model.safetensors").symlink_to(outside / "weights")
    chosen = {path.name: path for path in folder.iterdir()}
    with pytest.raises(SyncRefused, match=r"adapter_model.safetensors': is a link that leaves"):
        check_files(chosen, folder)


def test_rules_answer_by_name_alone() -> None:
    rules = IgnoreRules(["secret-notes/"])
    assert rules.ignores("secret-notes/")
    assert not rules.ignores("secret-notes")  # a file of that name
    assert rules.is_secret("deep/ID_RSA")


BAD_NAMES = {
    'quo"te': 'holds "',
    "back\\slash": "holds \\",
    "co:lon": "holds :",
    "pi|pe": "holds |",
    "less<": "holds <",
    "more>": "holds >",
    "st*r": "holds *",
    "what?": "holds ?",
    "tab\tbed": "U+0009",
    "del\x7f": "U+007F",
    "high\x81": "U+0081",
    "private\ue000": "U+E000",
    "surrogate\udcff": "U+DCFF",
    "none\uffff": "U+FFFF",
    "dot.": "ends with a dot",
    "folder /file": "ends with a space",
    "LPT1": "device name",
    "sub/com9": "device name",
    "Nul": "device name",
    "clock$": "device name",
    "a" * 256: "has 256 characters",
    "\U0001f600" * 128: "has 256 characters",  # two UTF-16 units each
    "/".join(["d" * 200] * 11): "the path has 2220 characters",
    "/".join(["d"] * 252): "257 folders deep",
    "a//b": "'' is not a name",
    "../up": "'..' is not a name",
}


@pytest.mark.parametrize(("name", "reason"), BAD_NAMES.items(), ids=range(len(BAD_NAMES)))
def test_names_that_are_not_valid_on_azure_files_have_a_reason(name: str, reason: str) -> None:
    prefix = "1/2/3/4/5/6" if "deep" in reason else "inference"
    [(reported, why)] = name_rules.find_problems([name], prefix)
    assert reported == name
    assert reason in why


def test_names_at_the_limits_are_fine() -> None:
    fine = [
        "a" * 255,
        "\U0001f600" * 127,
        ".hidden",
        "with space",
        "日本語.txt",
        "COM0",
        "con.json",
        "LPT10",
        "a,b;c=[d]{e}'~!@#$%^&()+",
        "/".join(["d" * 203] * 10),
    ]
    assert name_rules.find_problems(fine, "p") == []


def test_names_that_collide_on_the_share_are_refused() -> None:
    clashing = [
        "Readme.md",
        "README.md",
        "Data/x",
        "data/y",
        "caf\u00e9",
        "cafe\u0301",
        "other",
        "straße",
        "strasse",
    ]
    reported = name_rules.find_problems(clashing)
    assert [name for name, _ in reported] == ["Readme.md", "caf\u00e9", "data/y"]
    assert "'README.md'" in reported[0][1]
    assert "'Data'" in reported[2][1]


@links
def test_snapshot_in_a_hub_cache_is_sent_through_its_links_and_nothing_else_is(tmp_path: Path) -> None:
    snapshot = hub_snapshot(fill(tmp_path / "real", "a.json", "b.json"), tmp_path / "hub", "ada/tiny")
    assert sent(snapshot) == ["a.json", "b.json"]
    assert scan_folder(snapshot)["a.json"].read_bytes() == (snapshot / "a.json").read_bytes()
    inner = fill(snapshot / "checkpoint-500", "c.json")
    (inner / "d.json").symlink_to("../../../blobs/" + (snapshot / "a.json").readlink().name)
    assert sent(inner) == ["c.json", "d.json"]
    outside = fill(tmp_path / "hub" / "models--eve--other" / "blobs", "e.json")
    (snapshot / "e.json").symlink_to(outside / "e.json")
    assert [*problems_of(snapshot)] == ["e.json"]
