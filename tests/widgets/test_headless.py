"""Forms under papermill: displayed as text, result() runs in the foreground, an error fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

CELLS = [
    "cake = 'plum'",
    """
from pathlib import Path
from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.settings import Settings
from nbtoolkit.widgets import Form
from nbtoolkit.workspace import Workspace

class BakeSettings(Settings):
    cake: str

def bake(settings, *, progress):
    progress.phase("Heating the oven")
    if settings.cake == "stone":
        raise InvalidAdapter("A stone is not a cake.", next_step="bake a plum cake")
    return f"a {settings.cake} cake"
""",
    "form = Form(BakeSettings(cake=cake), bake, step='Bake', workspace=Workspace(Path.cwd()))\nform",
    "form.result()",
]


def run(folder: Path, cake: str) -> tuple[subprocess.CompletedProcess[str], nbformat.NotebookNode]:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "in.ipynb")
    command = [
        sys.executable,
        "-m",
        "papermill",
        "in.ipynb",
        "out.ipynb",
        "-p",
        "cake",
        cake,
        "--no-progress-bar",
    ]
    environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done, nbformat.read(folder / "out.ipynb", as_version=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "infra").mkdir()
    return tmp_path


def test_a_headless_run_outputs_form_progress_and_result(folder: Path) -> None:
    done, notebook = run(folder, "apple")
    assert done.returncode == 0, done.stderr
    form, result = notebook.cells[-2].outputs, notebook.cells[-1].outputs
    assert "Cake: apple" in form[0]["data"]["text/plain"]
    assert not any("widget-view" in mime for output in form for mime in output["data"])
    assert "Heating the oven" in result[0]["text"]
    assert result[-1]["data"]["text/plain"] == "'a apple cake'"


def test_an_error_fails_the_run_with_its_cause_and_next_step(folder: Path) -> None:
    done, notebook = run(folder, "stone")
    assert done.returncode != 0
    error = next(output for output in notebook.cells[-1].outputs if output["output_type"] == "error")
    assert "A stone is not a cake." in "\n".join(error["traceback"])
    assert "Next: bake a plum cake" in "\n".join(error["traceback"])
