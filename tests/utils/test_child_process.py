"""A child process ends with its caller, together with its own children."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil
import pytest

from nbtoolkit.errors import Cancelled
from nbtoolkit.progress import Progress
from nbtoolkit.utils.child_process import child_process, read_lines, run_child
from tests.support.wait import wait_until


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_status_and_both_outputs_are_returned() -> None:
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    assert run_child(python(program), Progress()) == (3, "out\nerr\n")


def test_environment_is_passed_on() -> None:
    program = "import os; print(os.environ['NAME'])"
    assert run_child(python(program), Progress(), env={"NAME": "value"}) == (0, "value\n")


def test_cancel_kills_the_process_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import os, subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"path = pathlib.Path({str(pids)!r})\n"
        "path.with_suffix('.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "path.with_suffix('.new').rename(path)\n"
        "time.sleep(60)"
    )
    progress = Progress()

    def cancel_once_it_runs() -> None:
        wait_until(pids.exists)
        progress.cancel()

    thread = threading.Thread(target=cancel_once_it_runs)
    thread.start()
    with pytest.raises(Cancelled):
        run_child(python(program), progress)
    thread.join()
    processes = [psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))]
    _, alive = psutil.wait_procs([one for one in processes if one.status() != psutil.STATUS_ZOMBIE], 2)
    assert alive == []


def test_lines_are_queued_as_they_arrive_and_end_with_none() -> None:
    import subprocess

    with child_process(python("print('one'); print('two')"), stdout=subprocess.PIPE) as process:
        assert process.stdout
        lines = read_lines(process.stdout, "test-lines")
        assert [lines.get(timeout=10) for _ in range(3)] == [b"one\n", b"two\n", None]


def test_leaving_kills_a_process_that_still_runs() -> None:
    with child_process(python("import time; time.sleep(60)")) as process:
        assert process.poll() is None
    assert process.returncode == -9
