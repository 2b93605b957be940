"""JupyterLab on a loopback port and a headless Chromium in front of it, for tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.processes import free_port


def find_chromium() -> str | None:
    """Return a Chromium from the PATH, else playwright's own, else None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).is_file() else None


CHROMIUM = find_chromium()
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # 3 s are too short on a busy machine, and without kernel info comms use no subshell
    "apputils-extension/kernels-settings": {"kernelInfoTimeout": 60_000},
    "notebook-extension/tracker": {"windowingMode": "none"},  # keep invisible cells in the page
}


class Lab:
    """A running JupyterLab whose root is ``root``."""

    def __init__(self, root: Path, url: str, token: str, log: Path) -> None:
        self.root = root
        self._url = url
        self._token = token
        self._log = log

    def write(self, name: str, cells: Sequence[str]) -> str:
        """Write a notebook of code cells and return its name."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells], metadata=KERNEL
        )
        nbformat.write(notebook, self.root / name)
        return name

    def address(self, path: str) -> str:
        """Return the URL that opens a file."""
        return f"{self._url}/lab/tree/{path}?token={self._token}&reset"

    def shut_down_kernels(self) -> None:
        """Shut down all sessions."""
        address = f"{self._url}/api/sessions"
        headers = {"Authorization": f"token {self._token}"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
            sessions = json.load(answer)
        for session in sessions:
            request = urllib.request.Request(f"{address}/{session['id']}", headers=headers, method="DELETE")
            urllib.request.urlopen(request).close()

    def answers(self) -> bool:
        """Return whether the server responds."""
        try:
            with urllib.request.urlopen(f"{self._url}/api/status?token={self._token}", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    @property
    def log(self) -> str:
        """The server's log."""
        return self._log.read_text(errors="replace")


@contextmanager
def running_lab(root: Path, state: Path, *, theme: str = "JupyterLab Light") -> Iterator[Lab]:
    """Start JupyterLab in ``root`` with its own settings below ``state``; ends with its kernels."""
    _write_settings(state / "settings", theme)
    token = secrets.token_hex(16)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    environment |= {
        "JUPYTER_CONFIG_DIR": str(state / "config"),
        "JUPYTER_DATA_DIR": str(state / "data"),
        "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(state / "workspaces"),
        "IPYTHONDIR": str(state / "ipython"),
        "JUPYTER_TOKEN": token,
        "OMP_NUM_THREADS": "1",
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        f"--ServerApp.root_dir={root}",
    ]
    log = state / "jupyter.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        try:
            lab = Lab(root, f"http://127.0.0.1:{port}", token, log)
            deadline = time.monotonic() + 60
            while not lab.answers():
                assert server.poll() is None, lab.log
                assert time.monotonic() < deadline, lab.log
                time.sleep(0.1)
            yield lab
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _write_settings(folder: Path, theme: str) -> None:
    for name, content in {**_SETTINGS, "apputils-extension/themes": {"theme": theme}}.items():
        file = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))


@contextmanager
def browser_page(width: int = 1280, height: int = 1000) -> Iterator[Any]:
    """Yield a page of a headless Chromium (a playwright ``Page``)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(30_000)
            yield page
        finally:
            browser.close()


def screenshot(page: Any, name: str) -> None:
    """Save a screenshot if the environment names a folder for it."""
    folder = os.environ.get("NBTOOLKIT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


class NotebookPage:
    """A notebook that is open in the browser."""

    def __init__(self, page: Any, lab: Lab, name: str) -> None:
        self.page = page
        self._lab = lab
        self._name = name
        page.goto(lab.address(name))
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        # a cell that is run before the kernel is ready is dropped
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)

    def cell(self, index: int) -> Any:
        """Return a cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)

    def output(self, index: int) -> Any:
        """Return the output of a cell."""
        return self.cell(index).locator(".jp-OutputArea").first

    def form(self, index: int) -> Any:
        """Return the widgets in the output of a cell."""
        return self.output(index).locator(".widget-vbox").first

    def run(self, index: int, *, wait: bool = True) -> None:
        """Run a cell, and wait until it has ended."""
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        if wait:
            self.page.wait_for_function(_ENDED, arg=index, timeout=60_000)

    def save(self) -> None:
        """Save the notebook and wait until the file is written."""
        file = self._lab.root / self._name
        before = file.stat().st_mtime_ns
        self.cell(0).locator(".jp-InputPrompt").click()
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 20
        while file.stat().st_mtime_ns == before:
            assert time.monotonic() < deadline, "the notebook was not saved"
            self.page.wait_for_timeout(100)

    def shut_down(self) -> None:
        """Shut the notebook's kernel down."""
        self._lab.shut_down_kernels()


_ENDED = r"""index => {
    const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[index];
    return /\[\d+\]/.test(cell.querySelector('.jp-InputPrompt').textContent);
}"""
