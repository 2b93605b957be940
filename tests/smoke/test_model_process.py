"""The model level's process reports the cause of its end, and ends with a cancel, a timeout or its parent."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbtoolkit import SmokeSettings, Workspace, smoke_test
from nbtoolkit.errors import Cancelled, SmokeTestFailed
from nbtoolkit.progress import Progress
from nbtoolkit.smoke.model_level.messages import FactsMessage, ModelTask
from nbtoolkit.smoke.model_process import run_model_level
from nbtoolkit.smoke.report import newest_report
from tests.support.recording_progress import RecordingProgress, call_at
from tests.support.tiny_models import tiny_adapter, tiny_base

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("smoke-process")
    tiny_base(root / "base")
    tiny_adapter(root / "adapter", root / "base", alpha=8)
    return root


def task(models: Path) -> ModelTask:
    return ModelTask(
        settings={"adapter": "adapter", "base": "base"},
        adapter_path=str(models / "adapter"),
        adapter_sha256="a" * 64,
        base_path=str(models / "base"),
        base_sha256="b" * 64,
        tokenizer_path=str(models / "base"),
    )


def run(models: Path, program: str, timeout: float = 60, progress: Progress | None = None) -> list[Any]:
    command = (sys.executable, "-c", program)
    return list(run_model_level(task(models), progress or Progress(), timeout, command))


def model_processes() -> set[int]:
    """Return the pids of the child processes of this test."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if child.is_running() and child.status() != "zombie"}


def test_killed_process_is_reported_as_out_of_memory(models: Path) -> None:
    program = "import os, sys; print('loading the lot', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    with pytest.raises(SmokeTestFailed, match=r"SIGKILL.*memory") as caught:
        run(models, program)
    assert "loading the lot" in caught.value.message
    assert "nf4" in caught.value.next_step


def test_crash_is_reported_with_the_last_lines_of_its_output(models: Path) -> None:
    with pytest.raises(SmokeTestFailed, match="exit status 1") as caught:
        run(models, "raise KeyError('no such layer')")
    assert "KeyError: 'no such layer'" in caught.value.message


def test_memory_error_in_python_has_a_next_step(models: Path) -> None:
    program = (
        "import sys\n"
        "from nbtoolkit.smoke.model_level import __main__ as level\n"
        "def run(*_): raise MemoryError('tried to allocate 99 GiB')\n"
        "level._run = run\n"
        "sys.exit(level.main())"
    )
    with pytest.raises(SmokeTestFailed, match="99 GiB") as caught:
        run(models, program)
    assert "nf4" in caught.value.next_step


def test_output_of_libraries_is_not_a_message(models: Path) -> None:
    program = (
        "import sys\n"
        "from nbtoolkit.smoke.model_level import __main__ as level\n"
        "from nbtoolkit.smoke.model_level.messages import FactsMessage\n"
        "def run(task, send):\n"
        "    print('a banner')\n"
        "    send(FactsMessage(device='CPU', dtype='float32'))\n"
        "level._run = run\n"
        "sys.exit(level.main())"
    )
    assert run(models, program) == [FactsMessage(device="CPU", dtype="float32")]


def test_process_is_killed_after_the_timeout(models: Path) -> None:
    before = model_processes()
    with pytest.raises(SmokeTestFailed, match=r"took over 0\.5 s"):
        run(models, "import time; time.sleep(60)", timeout=0.5)
    assert model_processes() == before


def test_cancel_ends_the_process_within_two_seconds(models: Path, workspace_root: Path) -> None:
    before = model_processes()
    cancelled_at: list[float] = []
    progress = call_at("starting torch", lambda: (cancelled_at.append(time.monotonic()), progress.cancel()))
    settings = SmokeSettings(adapter=models / "adapter", base=str(models / "base"))
    with pytest.raises(Cancelled):
        smoke_test(settings, progress=progress, workspace=Workspace(workspace_root))
    assert time.monotonic() - cancelled_at[0] < 2
    assert model_processes() == before
    assert list(Workspace(workspace_root).reports.iterdir()) == []


def test_cancel_from_another_thread_ends_a_process_without_output(models: Path) -> None:
    progress = Progress()
    threading.Timer(0.3, progress.cancel).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        list(
            run_model_level(task(models), progress, 60, (sys.executable, "-c", "import time; time.sleep(60)"))
        )
    assert time.monotonic() - start < 2.3


def test_process_ends_when_its_kernel_dies(models: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "nbtoolkit.smoke.model_level"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPO,
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(task(models).model_dump_json().encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()  # it is running
        process.stdin.close()
        assert process.wait(timeout=10) == 3
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_static_and_model_level_pass(models: Path, workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    progress = RecordingProgress()
    settings = SmokeSettings(
        adapter=models / "adapter", base=str(models / "base"), levels=("static", "model"), norm_warn=10
    )
    report = smoke_test(settings, progress=progress, workspace=workspace)
    verdicts = {(one.level, one.id): one.verdict for one in report.checks}
    ids = {
        "static": ("A1", "A2", "A3", "A4", "A5", "A6", "A7"),
        "model": ("A4", "G1", "G2", "G3", "G4", "G6"),
    }
    assert verdicts.items() >= {(level, id): "pass" for level, each in ids.items() for id in each}.items()
    skipped = {("static", "A8"): "skipped", ("model", "G5"): "skipped"}  # no gpu, no golden prompts
    assert {key: verdict for key, verdict in verdicts.items() if verdict != "pass"} == skipped
    assert report.fingerprint
    assert report.fingerprint.adapter_sha256 == report.adapter_sha256
    assert report.fingerprint.base_sha256 == report.base_sha256
    assert (report.dtype, report.device is not None) == ("float32", True)
    assert report.versions["peft"]
    assert report.open == ("level contract was not run",)
    assert "Smoke test: letting the adapter answer" in progress.lines


def test_failing_static_check_starts_no_process(models: Path, workspace_root: Path) -> None:
    workspace = Workspace(workspace_root)
    (workspace_root / "empty").mkdir()
    progress = RecordingProgress()
    settings = SmokeSettings(adapter="empty", base=str(models / "base"))
    report = smoke_test(settings, progress=progress, workspace=workspace)
    skipped = {one.id: one.summary for one in report.checks if one.level != "static"}
    assert skipped.keys() >= {"A4", "G1", "G2", "G3", "G4", "G6", "G7"}
    assert set(skipped.values()) == {"skipped: A1 failed"}
    assert not any("torch" in line for line in progress.lines)
    assert len(list(workspace.reports.iterdir())) == 1, "a failing report is kept too"


@pytest.mark.parametrize("content", ['{"format": 2}', "{}", "cut off"])
def test_broken_report_is_not_reused(models: Path, workspace_root: Path, content: str) -> None:
    workspace = Workspace(workspace_root)
    settings = SmokeSettings(adapter=models / "adapter", base=str(models / "base"), levels=("static",))
    before = smoke_test(settings, workspace=workspace)
    (path,) = workspace.reports.iterdir()
    path.write_text(content)
    progress = RecordingProgress()
    report = smoke_test(settings, progress=progress, workspace=workspace)
    assert any("testing again" in line and str(path) in line for line in progress.lines)
    assert report.created > before.created
    assert newest_report(workspace, report.adapter_sha256, report.base_sha256) == report
