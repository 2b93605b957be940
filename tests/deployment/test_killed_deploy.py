"""Deploys that are killed or that race: every answer comes from exactly one complete release."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbtoolkit import Deployment, deploy
from nbtoolkit.errors import ReleaseChanged
from nbtoolkit.releases import publisher
from tests.support.recording_progress import call_at
from tests.support.request_loop import RequestLoop
from tests.support.stub_deploy import LocalProject

REPO = Path(__file__).parents[2]
SEED = 20_261_122
DEPLOY = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(REPO)!r})
import httpx
from tests.support import stub_deploy
from nbtoolkit import deploy
stub_deploy.use_stub(Path(sys.argv[1]))
project = stub_deploy.LocalProject(Path(sys.argv[2]), keep=True)
settings = project.settings(Path(sys.argv[3]), max_concurrency=int(sys.argv[4]), keep=True)
print("go", flush=True)
deploy(settings, target=project.target)
print("done", flush=True)
"""


def finished(project: LocalProject) -> dict[str, tuple[int, int]]:
    """Return the complete files on the share: name → inode and time."""
    return {
        str(path.relative_to(project.target.mount)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for folder in ("adapters", "code", "releases", "reports")
        for path in (project.target.mount / "nbtoolkit" / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.all)], ids=["sample", "all"])
def test_killed_deploy_never_half_serves_and_the_next_one_finishes_it(
    stub_code: Path, stub_engine: None, tmp_path: Path, rounds: int
) -> None:
    chance = random.Random(SEED)
    project = LocalProject(tmp_path / "workspace", keep=False)
    words: dict[str, str] = {}
    cut_short, concurrency = 0, 16
    try:
        first = project.deploy("first")
        words[first.release.adapters[0].sha256[:16]] = "first"
        for number in range(rounds):
            word = f"word{number}"
            folder = project.adapter(word, size=8_000_000)
            before, concurrency = concurrency, 16 if number % 4 else 8 + number
            restarts = concurrency != before  # every fourth round restarts, and the one after it
            arguments = [str(stub_code), str(project.workspace.root), str(folder), str(concurrency)]
            command = [sys.executable, "-c", DEPLOY, *arguments]
            with (
                RequestLoop(first.endpoint, interval=0.01) as requests,
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child,
            ):
                assert child.stdout
                assert child.stdout.readline() == "go\n"
                time.sleep(chance.uniform(0, 1.0))
                child.send_signal(signal.SIGKILL)
                cut_short += child.stdout.read() == ""
                whole = finished(project)
                settings = project.settings(folder, max_concurrency=concurrency)
                done = deploy(settings, target=project.target)
                words[done.release.adapters[0].sha256[:16]] = word
            after = finished(project)
            assert {name: after[name] for name in whole} == whole, "a finished file was written again"
            assert done.sync.sent_files == len(after) - len(whole)
            assert project.says() == word
            interrupted = [failure for failure in requests.failures if failure[0] in (None, 503)]
            assert requests.failures == interrupted, "a request got an error that a restart does not explain"
            assert restarts or interrupted == []
            assert requests.answers
            assert all(words[fingerprint] == word for fingerprint, word in requests.answers)
    finally:
        project.target.destroy()
    assert cut_short > rounds / 4, "too few deploys were killed before they had finished"


def race(project: LocalProject, word: str, meeting: threading.Barrier) -> Deployment | ReleaseChanged:
    try:
        return project.deploy(word, call_at("Publishing", lambda: meeting.wait(30)))
    except ReleaseChanged as error:
        return error


@pytest.fixture
def two(stub_engine: None, tmp_path: Path) -> Iterator[tuple[LocalProject, LocalProject]]:
    """Two workspaces that deploy to one root."""
    projects = tuple(LocalProject(tmp_path / name, tmp_path / "root") for name in ("one", "two"))
    yield projects[0], projects[1]
    projects[0].target.destroy()


def test_the_error_of_a_lost_race_names_the_winner(two: tuple[LocalProject, LocalProject]) -> None:
    for turn in range(3):
        meeting = threading.Barrier(2)
        words = {project: f"w{turn}{index}" for index, project in enumerate(two)}
        with ThreadPoolExecutor(2) as pool:
            racing = {project: pool.submit(race, project, word, meeting) for project, word in words.items()}
            outcomes = {project: future.result() for project, future in racing.items()}
        winner = next(project for project, outcome in outcomes.items() if isinstance(outcome, Deployment))
        loser = next(project for project in two if project is not winner)
        error = outcomes[loser]
        assert isinstance(error, ReleaseChanged)
        assert str(winner.workspace.root) in str(error)
        assert vars(error)["by"].endswith(str(winner.workspace.root))
        assert winner.says() == loser.says() == words[winner]
        assert len(publisher.pointer_history(winner.target.share)) == turn + 1


def test_the_error_of_a_replaced_release_names_who_replaced_it(
    two: tuple[LocalProject, LocalProject],
) -> None:
    one, other = two
    one.deploy("start")

    progress = call_at("Waiting", lambda: other.deploy("theirs"))
    with pytest.raises(ReleaseChanged) as caught:
        one.deploy("mine", progress)
    assert vars(caught.value)["by"].endswith(str(other.workspace.root))
    assert one.says() == "theirs"
