"""The quickstart notebook runs headless, and a run that must fail does fail, with the check named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nbtoolkit import LocalTarget, Workspace, demo
from tests.support.jupyter_browser import NotebookPage, browser_page, needs_browser, running_lab, screenshot

Break = Callable[[Path], None]


def checkout(repo: Path, folder: Path) -> Path:
    """A workspace with the notebook and without the source of the package."""
    (folder / "infra").mkdir(parents=True)
    for part in ("notebooks", "nbtoolkit/demo/adapters"):
        shutil.copytree(repo / part, folder / part)
    unpacked = repo / "model-cache"
    if unpacked.is_dir():  # unpacking once a test session is enough
        (folder / "model-cache").symlink_to(unpacked)
    return folder


def run_demo(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nbtoolkit.demo", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["TMPDIR"] = str(root / "tmp")  # so that the processes of a smoke test are found, too
    (root / "tmp").mkdir(exist_ok=True)
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment, check=False)


def remaining_processes(root: Path) -> list[str]:
    """Return command lines of processes that have not ended after a short wait."""
    deadline = time.monotonic() + 10
    while (found := servers_of(root)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def servers_of(root: Path) -> list[str]:
    """Return the command lines of a workspace's processes."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(root) in line and process.pid != os.getpid():
            found.append(line)
    return found


@pytest.fixture(scope="module")
def root(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One workspace for the headless run and the browser, as a user has it."""
    return checkout(repo, tmp_path_factory.mktemp("quickstart") / "workspace")


@pytest.mark.timeout(600)
def test_demo_runs_to_the_end_and_leaves_no_process(root: Path) -> None:
    done = run_demo(root, "--adapter", str(demo.adapter("tone-emotion")))
    assert done.returncode == 0, done.stdout + done.stderr
    words = set(demo.ADAPTERS["tone-emotion"].values())
    notebook = json.loads((root / ".nbtoolkit/demo/00_quickstart.ipynb").read_text())
    texts = [
        "".join(output["data"]["text/plain"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "text/plain" in output.get("data", {})
    ]
    assert any("proven" in text for text in texts)
    table = next(text for text in texts if all(prompt[:20] in text for prompt in demo.PROMPTS))
    assert sum(word in table for word in words) >= 4, table
    assert str(root / ".nbtoolkit/demo/00_quickstart.ipynb") in done.stdout
    assert remaining_processes(root) == []
    assert [path.name for path in (root / "tmp").iterdir() if "smoke" in path.name] == []
    key = (root / ".nbtoolkit/local/api-key").read_text().strip()
    assert key not in done.stdout + done.stderr + json.dumps(notebook)


@needs_browser
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_notebook_runs_in_a_browser(root: Path, tmp_path: Path) -> None:
    try:
        with running_lab(root, tmp_path) as lab, browser_page(height=1400) as page:
            notebook = NotebookPage(page, lab, "notebooks/00_quickstart.ipynb")
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            last = page.locator(".jp-Notebook .jp-CodeCell").count() - 1
            notebook.output(last).get_by_text("ready: it answers").wait_for(timeout=300_000)
            table = next(i for i in range(last) if "compare(" in notebook.cell(i).inner_text())
            shown = notebook.output(table).inner_text()
            assert sum(word in shown for word in demo.ADAPTERS["tone-emotion"].values()) >= 4, shown
            chat = notebook.form(last - 1)
            chat.get_by_placeholder("Write to the model…").fill(demo.PROMPTS[0])
            chat.get_by_role("button", name="Send").click()
            chat.get_by_text(re.compile(r"tone-emotion · \d+\.\d s")).wait_for(timeout=60_000)
            screenshot(page, "quickstart")
            notebook.shut_down()
        assert LocalTarget(Workspace(root)).replicas(), "the server survives the kernel"
    finally:
        LocalTarget(Workspace(root)).stop()
    assert remaining_processes(root) == []


def truncate(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def zero(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:start] + bytes(len(content) - start))


def wrong_base(folder: Path) -> None:
    """Double one dimension of every tensor in the header, and its bytes: an adapter of a wider model."""
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    data, end = [], 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, stop = entry["data_offsets"]
        piece = content[start + begin : start + stop] * 2
        axis = 1 if "lora_A" in name else 0
        entry["shape"][axis] *= 2
        entry["data_offsets"] = [end, end + len(piece)]
        end += len(piece)
        data.append(piece)
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("spoil", "check"),
    [(truncate, "A1"), (zero, "A6"), (wrong_base, "A4")],
    ids=["truncated", "zero", "wrong base"],
)
def test_demo_with_an_invalid_adapter_fails_and_names_the_check(
    repo: Path, tmp_path: Path, spoil: Break, check: str
) -> None:
    root = checkout(repo, tmp_path / "workspace")
    adapter = root / "bad-adapter"
    shutil.copytree(demo.adapter("tone-emotion"), adapter)
    spoil(adapter)
    done = run_demo(root, "--adapter", str(adapter))
    assert done.returncode != 0
    last = done.stderr.split("The run failed")[-1]
    assert check in last, done.stderr
    assert "Next:" in last
    assert "Traceback" not in last
    assert remaining_processes(root) == []
