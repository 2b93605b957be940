"""The lifetime of the local server: that of a headless notebook; otherwise it outlives the notebook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager

from nbtoolkit import LocalTarget, Workspace
from nbtoolkit.local.server_state import ProcessId, StateFiles
from tests.support import local_stub as double
from tests.support.processes import processes_of
from tests.support.wait import wait_until

REPO = Path(__file__).parents[2]
START = textwrap.dedent(f"""
    import sys
    sys.path.insert(0, {str(REPO)!r})
    from tests.support import local_stub as double
    from nbtoolkit import LocalTarget
    target = LocalTarget(keep=KEEP)
    target.provision()
    target.activate(double.release(target), restart=False)
    print("keeps", target.keep, flush=True)
""")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalTarget]:
    """The target that the processes under test use; destroyed at the end."""
    target = LocalTarget(Workspace(double.workspace_of(tmp_path)), keep=True)
    yield target
    target.destroy()


def run(target: LocalTarget, keep: str, then: str) -> subprocess.CompletedProcess[str]:
    code = START.replace("KEEP", keep) + textwrap.dedent(then)
    folder = target.workspace.root
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "then",
    ["", "raise ValueError('the run fails')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    ids=["ends", "fails", "is killed"],
)
def test_server_ends_with_its_process(target: LocalTarget, then: str) -> None:
    done = run(target, "False", then)
    assert "keeps False" in done.stdout, done.stderr
    wait_until(lambda: not processes_of(target))
    assert "notebook that started it ended" in str(target.status()) or "was stopped" in str(target.status())


def test_kept_server_outlives_its_process(target: LocalTarget) -> None:
    done = run(target, "None", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "keeps True" in done.stdout, done.stderr
    time.sleep(1)
    assert target.replicas() == ("local",)


def test_kept_server_is_not_ended_by_a_headless_run_that_uses_it(target: LocalTarget) -> None:
    assert "keeps True" in run(target, "True", "").stdout
    assert "keeps False" in run(target, "False", "").stdout
    time.sleep(1)
    assert target.replicas() == ("local",)


def test_keeping_notebook_becomes_owner_of_a_headless_runs_server(target: LocalTarget) -> None:
    other = f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", {START.replace("KEEP", "True")!r}], check=True)
    """
    assert "keeps False" in run(target, "False", other).stdout
    time.sleep(1)
    assert target.replicas() == ("local",)


def test_server_whose_owner_just_died_ends_with_its_next_owner(target: LocalTarget) -> None:
    target.provision()
    release = double.release(target)
    target.activate(release, restart=False)
    files, me = StateFiles(target.root), ProcessId.current()
    launcher = json.loads(files.record.read_text())["launcher"]["pid"]
    os.kill(launcher, signal.SIGSTOP)  # it has not polled its owners yet
    try:
        files.write_owners([ProcessId(me.pid, me.created - 100)])
        target.kept(False).activate(release, restart=False)
        assert files.read_owners() == [me]
    finally:
        os.kill(launcher, signal.SIGCONT)
    time.sleep(1)
    assert target.replicas() == ("local",)


@pytest.mark.parametrize(("keep", "left"), [("None", 0), ("True", 2)], ids=["default", "kept"])
def test_failed_papermill_run_leaves_nothing_running_unless_kept(
    target: LocalTarget, keep: str, left: int
) -> None:
    folder = target.workspace.root
    cells = [START.replace("KEEP", keep), "raise ValueError('the run fails')"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=metadata
    )
    nbformat.write(notebook, folder / "in.ipynb")
    command = [
        sys.executable,
        "-m",
        "papermill",
        "in.ipynb",
        "out.ipynb",
        "--no-progress-bar",
        "--log-output",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"keeps {keep == 'True'}" in done.stderr
    if left:
        time.sleep(1)
        assert len(processes_of(target)) == left
    else:
        wait_until(lambda: not processes_of(target))


def test_interactive_server_survives_interrupt_and_kernel_restart(target: LocalTarget) -> None:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(target.workspace.root))
    try:
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        output: list[str] = []

        def record_output(message: dict[str, dict[str, str]]) -> None:
            output.append(message["content"].get("text", "") + message["content"].get("evalue", ""))

        # An interactive frontend allows input; it sends that with every cell.
        client.execute_interactive(
            START.replace("KEEP", "None"), allow_stdin=True, output_hook=record_output, timeout=60
        )
        assert "keeps True" in "".join(output)
        running = target.status().facts["process"].split(",")[0]
        assert manager.provisioner is not None
        kernel = manager.provisioner.pid  # type: ignore[attr-defined]
        os.killpg(os.getpgid(kernel), signal.SIGINT)  # as the interrupt button does
        client.stop_channels()
        manager.restart_kernel(now=True)
        time.sleep(1)
        assert target.replicas() == ("local",)
        assert target.status().facts["process"].split(",")[0] == running
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
