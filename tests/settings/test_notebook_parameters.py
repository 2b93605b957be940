"""Parameters of a notebook: which cells are read, and which names and values are rejected."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings
from tests.support.step_settings import SECRET, Other, Required, Step


class Notebook:
    """A real IPython shell that executes cells as a kernel does."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        shell.user_ns["Step"] = Step
        shell.user_ns["Other"] = Other

    def run(self, *cells: str) -> Any:
        result = None
        for cell in cells:
            outcome = self.shell.run_cell(cell, store_history=True, silent=False)
            outcome.raise_error()
            result = outcome.result
        return result

    def rejected(self, *cells: str) -> str:
        with pytest.raises(InvalidSettings) as caught:
            self.run(*cells)
        return str(caught.value)


READ = "Step.from_notebook()"


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    yield Notebook(shell)
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_the_parameters_cell_is_read(notebook: Notebook) -> None:
    step = notebook.run(
        'adapters = "models/tone"\nbase = 2\nlength = "32"\nkeep = None',
        "import os\nhere = os.getcwd()",
        READ,
    )
    assert (step.base, step.length, step.keep) == ("2", 32, None)
    assert step.adapters == {"tone": Path("models/tone")}


def test_injected_parameters_override_the_defaults(notebook: Notebook) -> None:
    step = notebook.run('base = "default"\nlength = 32', '# Parameters\nbase = "injected"\n', READ)
    assert (step.base, step.length) == ("injected", 32)


def test_an_injected_unknown_name_is_rejected(notebook: Notebook) -> None:
    text = notebook.rejected('base = "default"', '# Parameters\nbsae = "typo"\n', READ)
    assert "bsae is not a setting; did you mean 'base'?" in text


def test_an_injected_infinity_is_rejected(notebook: Notebook) -> None:
    assert "wanted text, not a number" in notebook.rejected('base = "x"', "base = float('inf')", READ)


@pytest.mark.parametrize(
    "cell",
    [
        "import os\nbase = os.environ['STEP_BASE']\nlength = 32",
        "prefix = 'rg'\nbase = f'{prefix}-new'\nlength = int('32')",
        "%load_ext autoreload\nbase = 'rg-new'\nlength = 32",
        "!true\nbase = 'rg-new'\nlength = 32",
        "import os\nos.environ['HF_TOKEN'] = 'x'\nbase = 'rg-new'\nlength = 32",
        "%%time\nbase = 'rg-new'\nlength = 32",
        "if True:\n    base = 'rg-new'\nlength = 32",
        "print('begin')\nbase, length = 'rg-new', 32",
        "globals().update(base='rg-new', length=32)",
        "from params import *",
        "%run params.py",
        "for name, value in {'base': 'rg-new', 'length': 32}.items():\n    globals()[name] = value",
    ],
)
def test_every_cell_that_assigns_a_setting_is_read(
    notebook: Notebook, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_BASE", "rg-new")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "params", raising=False)
    (tmp_path / "params.py").write_text("base = 'rg-new'\nlength = 32\n")
    step = notebook.run(cell, READ)
    assert (step.base, step.length) == ("rg-new", 32)


def test_injected_parameters_override_computed_defaults(notebook: Notebook) -> None:
    cells = ("base = str('default')\nlength = int('32')", "# Parameters\nlength = 48\n")
    assert notebook.run(*cells, READ) == Step(base="default", length=48)
    text = notebook.rejected(cells[0], "# Parameters\nzebra = 1\n", READ)
    assert "zebra is not a setting" in text
    assert "(cell In[5], line 2)" in text


def test_a_setting_in_the_calling_cell_is_read(notebook: Notebook) -> None:
    assert notebook.run("base = 'a' + str(1)\n" + READ).base == "a1"
    assert notebook.run("for base in ('b', 'c'):\n    step = " + READ + "\nstep").base == "c"


def test_an_invalid_computed_value_is_rejected_with_its_line(notebook: Notebook) -> None:
    text = notebook.rejected("import os\n\nlength = os.environ.get('NOT_SET', 'long')", READ)
    assert "length = 'long': wanted a whole number (tokens) (cell In[1], line 3)" in text
    text = notebook.rejected("\n\nlength = 32\nbase = object()", READ)
    assert "base = <object object at" in text
    assert "(cell In[3], line 4)" in text


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("base = 'a'\n%precision 3\nzebra = str('b')", 3),
        ("import os\nlenght = int(os.environ['STEP_LENGTH'])", 2),
        ("print('begin')\nlenght = 32\nprint(lenght)", 2),
        ("from pathlib import Path\nbase = 'a'\nfolder = Path.home()", 3),
    ],
)
def test_an_unknown_computed_name_is_rejected_with_its_line(
    notebook: Notebook, cell: str, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_LENGTH", "32")
    text = notebook.rejected(cell, READ)
    assert "is not a setting; " in text
    assert f"(cell In[1], line {line})" in text


def test_a_misspelt_name_from_another_file_is_rejected(notebook: Notebook) -> None:
    assert "did you mean 'quantization'?" in notebook.rejected("globals().update(quantisation='nf4')", READ)


def test_other_cells_are_ignored(notebook: Notebook) -> None:
    step = notebook.run(
        "base = 'a'\nlength = 32",
        "import os, sys\nfrom pathlib import Path as inner",
        "x = 5",
        "result = len('abc')\nlengths = [result]\nprint(lengths)",
        "def keep():\n    ratio = 1\n    return ratio",
        "class ratio:\n    pass",
        "with open(os.devnull) as quantization:\n    pass",
        "for item in range(3):\n    print(item)",
        "settings = " + READ,
        "adapters = settings.adapters\nbase = settings.base",
        "report = settings\nprint(report)",
        READ,
    )
    assert step == Step(base="a", length=32)


def test_an_nbtoolkit_object_with_the_name_of_a_setting_is_ignored(notebook: Notebook) -> None:
    notebook.shell.user_ns["form"] = [Settings()]
    assert notebook.run("length = 32", READ, "keep = form[0]", READ) == Step(length=32)
    assert "keep = Settings()" in notebook.rejected("length = 32\nkeep = type(Step()).__mro__[1]()", READ)


def test_names_of_a_startup_file_are_ignored(notebook: Notebook) -> None:
    startup = {"base": "startup", "lenght": 1}
    notebook.shell.user_ns.update(startup)
    notebook.shell.user_ns_hidden.update(startup)
    assert notebook.run("ratio = 0.25", READ) == Step(ratio=0.25)
    assert notebook.run("ratio = 0.25\nbase = 'startup'", READ).base == "startup"


def test_a_value_that_a_loop_left_is_rejected(notebook: Notebook) -> None:
    cells = ("base = 'a'", "for base in ('b', 'c'):\n    print(base)")
    text = notebook.rejected(*cells, READ)
    assert "base has a value that a loop or with statement left there (cell In[2], line 1)" in text
    assert "or run: del base" in text
    assert notebook.run("base = 'a'", READ).base == "a"


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("import os\nbase = os.environ['NOT_SET_HERE']", "may have an older value"),
        (
            "import os\nlength = int(os.environ['NOT_SET_HERE'])",
            "did not run up to that line (cell In[2], line 2)",
        ),
        ("base = 'b", "is not valid Python and did not run (cell In[2], line 1)"),
    ],
)
def test_a_setting_whose_cell_failed_is_rejected(notebook: Notebook, cell: str, reason: str) -> None:
    notebook.run("base = 'a'")
    with pytest.raises((KeyError, SyntaxError)):
        notebook.run(cell)
    assert reason in notebook.rejected(READ)
    assert notebook.run("base = 'b'\nlength = 32", READ) == Step(base="b", length=32)


def test_a_computed_secret_is_read_and_not_shown(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_KEY", SECRET)
    step = notebook.run("import os\napi_key = os.environ['STEP_KEY']", READ)
    assert step.api_key == SecretStr(SECRET)
    assert SECRET not in notebook.rejected(
        f"import os\nos.environ['HF_TOKEN'] = '{SECRET}'\nlenght = str(1)", READ
    )
    text = notebook.rejected(f"length = 32\napi_key = '{SECRET}'", READ)
    assert "papermill writes those into its output" in text or "is not a setting" in text
    assert SECRET not in text


def test_a_failed_call_is_ignored_later(notebook: Notebook) -> None:
    notebook.run("base = 'a'")
    with pytest.raises(InvalidSettings):
        notebook.run("length = 'long'", READ)
    assert notebook.run("base = 'b'\nlength = 32", READ).length == 32


def test_the_last_run_of_an_edited_cell_counts(notebook: Notebook) -> None:
    assert notebook.run("base = 'a'\nlength = 32", READ).length == 32
    assert notebook.run("base = 'a'\nlength = 48", READ).length == 48
    assert notebook.run(READ).length == 48
    assert notebook.run("length *= 2", READ).length == 96


def test_a_corrected_name_is_no_longer_rejected(notebook: Notebook) -> None:
    notebook.rejected("bsae = 'a'", READ)
    assert notebook.run("base = 'a'", READ).base == "a"


def test_a_stale_setting_is_rejected(notebook: Notebook) -> None:
    notebook.run("base = 'a'\nquantization = 'nf4'", READ)
    text = notebook.rejected("base = 'a'", READ)
    assert "quantization was set to 'nf4' in an earlier cell" in text
    assert "del quantization" in text
    assert notebook.run("del quantization", READ).quantization == "none"


def test_two_steps_share_a_parameters_cell(notebook: Notebook) -> None:
    cell = "base = 'a'\ntarget = 'azure'"
    assert "target is not a setting" in notebook.rejected(cell, READ)
    assert notebook.run("Step.from_notebook(shared_with=(Other,))").base == "a"
    assert notebook.run("Other.from_notebook(shared_with=(Step,))").target == "azure"


def test_without_a_parameters_cell_the_defaults_are_used(notebook: Notebook) -> None:
    assert notebook.run("import os", READ) == Step()


def test_a_literal_secret_is_rejected() -> None:
    with pytest.raises(InvalidSettings, match="papermill writes those into its output") as caught:
        Step.from_notebook({"api_key": SECRET})
    assert SECRET not in str(caught.value)
    assert Step.from_notebook({"api_key": None}).api_key is None


def test_a_namespace_contributes_its_plain_public_names() -> None:
    namespace = {"base": "a", "_hidden": 1, "os": os, "step": Step(), "In": ["x = 1"], "length": 32}
    assert Step.from_notebook(namespace) == Step(base="a", length=32)
    with pytest.raises(InvalidSettings, match="did you mean 'length'"):
        Step.from_notebook({"lenght": 32})


def test_a_script_is_read_by_its_global_names() -> None:
    script = "from nbtoolkit.settings import Settings\nbase = 'a'\nresult = Required.from_notebook()"
    names: dict[str, Any] = {"__name__": "script", "Required": Required}
    exec(compile(script, "script.py", "exec"), names)
    assert names["result"] == Required(base="a")


def test_jupyter_execute_and_papermill_read_a_computed_parameter(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat

    for name, value in (("PYTHONPATH", str(repo)), ("IPYTHONDIR", str(tmp_path / "ipython"))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STEP_BASE", "computed")
    source = "%precision 3\nimport os\nbase = os.environ['STEP_BASE']\nlength = int('32')"
    read = (
        "from nbtoolkit.settings import Settings\n"
        "class Step(Settings):\n    base: str = 'default'\n    length: int = 64\n\n"
        "print(Step.from_notebook())"
    )
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(read),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "in.ipynb")

    def run(*command: str) -> str:
        program = [str(Path(sys.executable).parent / command[0]), *command[1:]]
        subprocess.run(program, cwd=tmp_path, check=True, capture_output=True)
        done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        return done.cells[-1]["outputs"][0]["text"]

    assert "base   = 'computed'\n  length = 32" in run("jupyter", "execute", "--output=out.ipynb", "in.ipynb")
    papermill = ("papermill", "in.ipynb", "out.ipynb", "--no-progress-bar", "-p", "length", "48")
    assert "base   = 'computed'\n  length = 48" in run(*papermill)


def test_papermill_reads_parameters_and_fails_on_an_unknown_name(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    import papermill

    monkeypatch.setenv("PYTHONPATH", str(repo))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = [
        nbformat.v4.new_code_cell('base = "default"\nlength = 32', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "from nbtoolkit.settings import Settings\n"
            "class Step(Settings):\n    base: str\n    length: int = 64\n\n"
            "print(Step.from_notebook())"
        ),
    ]
    source = tmp_path / "in.ipynb"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), source)

    done = papermill.execute_notebook(
        source, tmp_path / "out.ipynb", {"base": "injected"}, progress_bar=False
    )
    assert "base   = 'injected'\n  length = 32" in done.cells[-1]["outputs"][0]["text"]

    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'length'"):
        papermill.execute_notebook(source, tmp_path / "out2.ipynb", {"lenght": 1}, progress_bar=False)
