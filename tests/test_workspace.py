"""A workspace is found from its subfolders and runs one operation per target at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nbtoolkit.errors import Busy, StoreError, WorkspaceNotFound
from nbtoolkit.workspace import Workspace

HOLD = """
import sys, time
from pathlib import Path
from nbtoolkit.workspace import Workspace
with Workspace(Path(sys.argv[1])).lock("deploy", target="local"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(workspace_root: Path, repo: Path):
    """Another process that holds the lock of target ``local`` until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace_root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repo)},
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("mark", ["infra", ".nbtoolkit"])
def test_workspace_is_found_from_a_subfolder(
    tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / mark).mkdir()
    notebooks = tmp_path / "notebooks" / "deep"
    notebooks.mkdir(parents=True)
    assert Workspace.find(notebooks).root == tmp_path
    monkeypatch.chdir(notebooks)
    assert Workspace.find().root == tmp_path


def test_nearest_workspace_is_used(tmp_path: Path) -> None:
    inner = tmp_path / "project"
    (tmp_path / "infra").mkdir()
    (inner / "infra").mkdir(parents=True)
    assert Workspace.find(inner).root == inner


def test_missing_workspace_error_names_the_searched_folder(tmp_path: Path) -> None:
    (tmp_path / "infra").write_text("a file is no mark")
    with pytest.raises(WorkspaceNotFound, match="mkdir") as caught:
        Workspace.find(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(WorkspaceNotFound, match="is not a folder"):
        Workspace(tmp_path / "missing")


def test_relative_paths_are_resolved_from_the_root(
    workspace_root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(Path())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setenv("HOME", "/home/someone")
    assert workspace.path("models/../adapter") == workspace_root / "adapter"
    assert workspace.path("/models/adapter") == Path("/models/adapter")
    assert workspace.path("~/adapter") == Path("/home/someone/adapter")


def test_state_folder_is_created_on_demand_and_ignored_by_git(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    assert not (workspace_root / ".nbtoolkit").exists()
    assert workspace.reports == workspace_root / ".nbtoolkit/reports"
    assert workspace.cache.is_dir()
    subprocess.run(["git", "init", "-q", str(workspace_root)], check=True)
    (workspace.cache / "file").write_text("x")
    command = ["git", "-C", str(workspace_root), "status", "--porcelain"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_an_unwritable_state_folder_is_named(workspace_root: Path) -> None:
    (workspace_root / ".nbtoolkit").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        _ = Workspace(workspace_root).state


def test_a_second_operation_is_refused_with_the_lock_holder(
    workspace_root: Path, holder: subprocess.Popen[str]
) -> None:
    workspace = Workspace(workspace_root)
    with (
        pytest.raises(Busy, match=f"process {holder.pid} runs 'deploy' since 20") as caught,
        workspace.lock("stop"),
    ):
        pass
    facts = vars(caught.value)
    assert (facts["pid"], facts["step"], facts["target"]) == (holder.pid, "deploy", "local")
    with workspace.lock("deploy", target="azure:my/group"):
        pass  # another target is free


def test_the_lock_is_released_when_its_holder_ends(
    workspace_root: Path, holder: subprocess.Popen[str]
) -> None:
    holder.communicate("")
    with Workspace(workspace_root).lock("stop"):
        note = json.loads((workspace_root / ".nbtoolkit/locks/local.json").read_text())
        assert (note["pid"], note["step"]) == (os.getpid(), "stop")
    assert not (workspace_root / ".nbtoolkit/locks/local.json").exists()


def test_a_killed_holder_leaves_no_lock(workspace_root: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (workspace_root / ".nbtoolkit/locks/local.json").exists()  # the lock file of the killed process
    with Workspace(workspace_root).lock("stop"):
        pass


def test_threads_of_one_process_exclude_each_other(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    found: list[BaseException] = []

    def second() -> None:
        try:
            with workspace.lock("deploy"):
                pass
        except Busy as error:
            found.append(error)

    with workspace.lock("deploy"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert [type(error) for error in found] == [Busy]


def test_an_error_releases_the_lock(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    with pytest.raises(ZeroDivisionError), workspace.lock("deploy"):
        _ = 1 / 0
    with workspace.lock("deploy"):
        pass


def test_targets_with_special_characters_have_separate_lock_files(workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    with (
        workspace.lock("a", target="azure:s/g"),
        workspace.lock("a", target="azure:s-g"),
        workspace.lock("a", target=".."),
    ):
        names = sorted(p.name for p in (workspace_root / ".nbtoolkit/locks").glob("*.lock"))
    assert len(names) == 3
