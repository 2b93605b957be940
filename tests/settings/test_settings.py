"""Settings check themselves, and read what a notebook's parameters cell has set."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings
from nbtoolkit.settings.cells import parse

SECRET = "canary-7f3a"
CANARY = "<img src=x onerror=alert(1)>"


class Inner(Settings):
    depth: int = 1


class Step(Settings):
    """What a step such as a deploy asks for."""

    adapters: dict[str, Path] = Field(default_factory=dict)
    base: str | None = None
    length: int = Field(default=64, ge=16, description="tokens")
    ratio: float = 0.5
    quantization: Literal["none", "nf4"] = "none"
    keep: bool | None = None
    api_key: SecretStr | None = None
    inner: Inner = Inner()

    @field_validator("adapters", mode="before")
    @classmethod
    def _by_folder_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {Path(value).name: value}
        if value == []:
            raise InvalidSettings("an empty list serves no adapter", next_step="name one")
        return value


class Needy(Settings):
    base: str


class Other(Settings):
    target: str = "local"


def message(**values: Any) -> str:
    with pytest.raises(InvalidSettings) as caught:
        Step(**values)
    return str(caught.value)


def test_numbers_and_texts_become_what_is_wanted() -> None:
    step = Step.of(adapters="models/tone", base=2, length="32", ratio="0.25", keep="true")
    assert step.adapters == {"tone": Path("models/tone")}
    assert (step.base, step.length, step.ratio, step.keep) == ("2", 32, 0.25, True)
    assert Step(base=Path("models/base")).base == "models/base"


def test_every_bad_setting_is_told_with_what_was_found_and_wanted() -> None:
    text = message(
        base=True, length=0, quantization="int8", adapters=[], keep="perhaps", inner={"depth": "x"}
    )
    for line in (
        "Step: 6 settings are not acceptable.",
        "  base = True: wanted text",
        "  length = 0: wanted at least 16 (tokens)",
        "  quantization = 'int8': wanted one of 'none' or 'nf4'",
        "  adapters = []: an empty list serves no adapter",
        "  keep = 'perhaps': wanted True or False",
        "  inner = {'depth': 'x'}: depth = 'x': wanted a whole number",
    ):
        assert line in text.splitlines()
    assert "Next: correct adapters, base, length, quantization, keep, inner" in text


def test_an_unknown_name_is_refused_with_the_nearest_right_one() -> None:
    assert "adaptors is no setting; did you mean 'adapters'?" in message(adaptors="x")
    assert "zebra is no setting; there are: adapters, base," in message(zebra=1)


def test_a_place_inside_a_setting_is_named() -> None:
    assert "adapters ['tone'] = 3: wanted a path" in message(adapters={"tone": 3})


@pytest.mark.parametrize(
    "build",
    [
        lambda **values: Step(**values),
        lambda **values: Step.of(**values),
        lambda **values: Step.model_validate(values),
        lambda **values: Step.model_validate_json('{"length": "long"}'),
    ],
)
def test_every_way_to_build_raises_the_same_error(build: Any) -> None:
    with pytest.raises(InvalidSettings, match=r"(?m)^  length = 'long': wanted a whole number \(tokens\)$"):
        build(length="long")


def test_text_that_is_no_json_is_told_without_repeating_it() -> None:
    with pytest.raises(InvalidSettings, match="Step invalid JSON") as caught:
        Step.model_validate_json('{"api_key": "' + SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1000.0])
def test_a_number_that_papermill_made_of_a_text_is_refused(value: float) -> None:
    assert f"base = {value!r}: wanted text, not a number; papermill -p guesses types" in message(base=value)


def test_a_number_must_be_finite() -> None:
    assert "ratio = inf: wanted a finite number" in message(ratio=float("inf"))


def test_no_error_and_no_display_shows_a_secret() -> None:
    step = Step(api_key=SECRET)
    shown = [str(step), repr(step), step._repr_html_()]
    with pytest.raises(InvalidSettings) as caught:
        Step(api_key=[SECRET], hf_token=SECRET, length="x")
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    shown += [repr(error) + str(error) for error in chain if error]
    assert not [text for text in shown if SECRET in text]
    assert "api_key = (hidden)" in str(caught.value)


def test_it_prints_as_plain_text_and_escaped_html() -> None:
    step = Step(base=CANARY, adapters={"tone": Path("a")})
    assert "  base         = '<img" in str(step)
    assert "  adapters     = {'tone': 'a'}" in str(step)
    assert CANARY not in step._repr_html_()
    assert "&lt;img" in step._repr_html_()


def test_changed_names_what_differs() -> None:
    assert Step(length=32).changed(Step(length=32)) == []
    assert Step(length=32, base="a").changed(Step(length=64, base="b")) == ["base", "length"]
    assert Needy(base="a").changed(Other()) == ["base", "target"]


@pytest.mark.parametrize(
    ("source", "bindings"),
    [
        ("a = 1\nb: int = -2\nc = {'x': [None, (1.5,)]}", "a 1 literal, b 2 literal, c 3 literal"),
        ('"""Text"""\nfrom pathlib import Path\na = Path("a") / "b"', "Path 2 definition, a 3 literal"),
        ("a = b = 4 * 1024  # KiB", "a 1 literal, b 1 literal"),
        ("# Parameters\na = float('inf')", "a 2 literal"),
        ("# only a comment", ""),
        ("a = f()\na, (b, *c) = g()", "a 1 computed, a 2 computed, b 2 computed, c 2 computed"),
        ("if x:\n    a = 1\nelse:\n    b = 2", "a 2 conditional, b 4 conditional"),
        ("for a in x:\n    b = a\nwith x as c: pass", "a 1 block, b 2 conditional, c 3 block"),
        ("try:\n    a = 1\nexcept E:\n    a = 2", "a 2 conditional, a 4 conditional"),
        (
            "def f():\n    a = 1\nclass C: b = 1\nimport os.path",
            "f 1 definition, C 3 definition, os 4 definition",
        ),
        ("a += 1\ndel a\nx.a = 1\nos.environ['b'] = 'c'", "a 1 computed, a 2 deleted"),
        ("get_ipython().run_cell_magic('time', '', 'a = 1')", "a 2 literal"),
        ("get_ipython().run_cell_magic('bash', '', 'a=1')", ""),
        ("a = 'open", "a 1 computed"),
    ],
)
def test_the_names_that_a_cell_binds(source: str, bindings: str) -> None:
    assert ", ".join(f"{b.name} {b.line} {b.kind}" for b in parse(1, source).bindings) == bindings


class Notebook:
    """A real IPython shell in which cells are executed as a kernel does."""

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

    def refused(self, *cells: str) -> str:
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


def test_what_papermill_injects_counts_after_the_defaults(notebook: Notebook) -> None:
    step = notebook.run('base = "default"\nlength = 32', '# Parameters\nbase = "injected"\n', READ)
    assert (step.base, step.length) == ("injected", 32)


def test_an_injected_name_that_is_none_is_refused(notebook: Notebook) -> None:
    text = notebook.refused('base = "default"', '# Parameters\nbsae = "typo"\n', READ)
    assert "bsae is no setting; did you mean 'base'?" in text


def test_an_injected_infinity_is_refused(notebook: Notebook) -> None:
    assert "wanted text, not a number" in notebook.refused('base = "x"', "base = float('inf')", READ)


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
def test_every_cell_that_sets_a_setting_is_read(
    notebook: Notebook, cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_BASE", "rg-new")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "params", raising=False)
    (tmp_path / "params.py").write_text("base = 'rg-new'\nlength = 32\n")
    step = notebook.run(cell, READ)
    assert (step.base, step.length) == ("rg-new", 32)


def test_what_papermill_injects_counts_after_computed_defaults(notebook: Notebook) -> None:
    cells = ("base = str('default')\nlength = int('32')", "# Parameters\nlength = 48\n")
    assert notebook.run(*cells, READ) == Step(base="default", length=48)
    text = notebook.refused(cells[0], "# Parameters\nzebra = 1\n", READ)
    assert "zebra is no setting" in text
    assert "(cell In[5], line 2)" in text


def test_a_setting_in_the_cell_of_the_call_is_read(notebook: Notebook) -> None:
    assert notebook.run("base = 'a' + str(1)\n" + READ).base == "a1"
    assert notebook.run("for base in ('b', 'c'):\n    step = " + READ + "\nstep").base == "c"


def test_a_computed_value_that_is_wrong_is_refused_with_its_line(notebook: Notebook) -> None:
    text = notebook.refused("import os\n\nlength = os.environ.get('NOT_SET', 'long')", READ)
    assert "length = 'long': wanted a whole number (tokens) (cell In[1], line 3)" in text
    text = notebook.refused("\n\nlength = 32\nbase = object()", READ)
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
def test_a_computed_name_that_is_no_setting_is_refused_with_its_line(
    notebook: Notebook, cell: str, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_LENGTH", "32")
    text = notebook.refused(cell, READ)
    assert "is no setting; " in text
    assert f"(cell In[1], line {line})" in text


def test_a_misspelt_name_from_another_file_is_refused(notebook: Notebook) -> None:
    assert "did you mean 'quantization'?" in notebook.refused("globals().update(quantisation='nf4')", READ)


def test_cells_that_set_no_setting_do_not_matter(notebook: Notebook) -> None:
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


def test_a_result_of_nbtoolkit_under_the_name_of_a_setting_does_not_matter(notebook: Notebook) -> None:
    notebook.shell.user_ns["form"] = [Settings()]
    assert notebook.run("length = 32", READ, "keep = form[0]", READ) == Step(length=32)
    assert "keep = Settings()" in notebook.refused("length = 32\nkeep = type(Step()).__mro__[1]()", READ)


def test_what_a_startup_file_defined_does_not_matter(notebook: Notebook) -> None:
    startup = {"base": "startup", "lenght": 1}
    notebook.shell.user_ns.update(startup)
    notebook.shell.user_ns_hidden.update(startup)
    assert notebook.run("ratio = 0.25", READ) == Step(ratio=0.25)
    assert notebook.run("ratio = 0.25\nbase = 'startup'", READ).base == "startup"


def test_a_value_that_a_loop_left_is_refused(notebook: Notebook) -> None:
    cells = ("base = 'a'", "for base in ('b', 'c'):\n    print(base)")
    text = notebook.refused(*cells, READ)
    assert "base holds a value that a loop or with statement left there (cell In[2], line 1)" in text
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
def test_a_setting_whose_cell_failed_is_refused(notebook: Notebook, cell: str, reason: str) -> None:
    notebook.run("base = 'a'")
    with pytest.raises((KeyError, SyntaxError)):
        notebook.run(cell)
    assert reason in notebook.refused(READ)
    assert notebook.run("base = 'b'\nlength = 32", READ) == Step(base="b", length=32)


def test_a_computed_secret_is_read_and_never_shown(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_KEY", SECRET)
    step = notebook.run("import os\napi_key = os.environ['STEP_KEY']", READ)
    assert step.api_key == SecretStr(SECRET)
    assert SECRET not in notebook.refused(
        f"import os\nos.environ['HF_TOKEN'] = '{SECRET}'\nlenght = str(1)", READ
    )
    text = notebook.refused(f"length = 32\napi_key = '{SECRET}'", READ)
    assert "papermill writes those into its output" in text or "is no setting" in text
    assert SECRET not in text


def test_a_cell_that_failed_does_not_matter(notebook: Notebook) -> None:
    notebook.run("base = 'a'")
    with pytest.raises(InvalidSettings):
        notebook.run("length = 'long'", READ)
    assert notebook.run("base = 'b'\nlength = 32", READ).length == 32


def test_an_edited_cell_counts_as_it_was_run_last(notebook: Notebook) -> None:
    assert notebook.run("base = 'a'\nlength = 32", READ).length == 32
    assert notebook.run("base = 'a'\nlength = 48", READ).length == 48
    assert notebook.run(READ).length == 48
    assert notebook.run("length *= 2", READ).length == 96


def test_a_corrected_name_is_no_longer_refused(notebook: Notebook) -> None:
    notebook.refused("bsae = 'a'", READ)
    assert notebook.run("base = 'a'", READ).base == "a"


def test_a_setting_that_was_taken_out_is_not_dropped_silently(notebook: Notebook) -> None:
    notebook.run("base = 'a'\nquantization = 'nf4'", READ)
    text = notebook.refused("base = 'a'", READ)
    assert "quantization was set to 'nf4' in an earlier cell" in text
    assert "del quantization" in text
    assert notebook.run("del quantization", READ).quantization == "none"


def test_a_notebook_of_two_steps_shares_its_parameters_cell(notebook: Notebook) -> None:
    cell = "base = 'a'\ntarget = 'azure'"
    assert "target is no setting" in notebook.refused(cell, READ)
    assert notebook.run("Step.from_notebook(shared_with=(Other,))").base == "a"
    assert notebook.run("Other.from_notebook(shared_with=(Step,))").target == "azure"


def test_without_a_parameters_cell_the_defaults_count(notebook: Notebook) -> None:
    assert notebook.run("import os", READ) == Step()


def test_a_secret_is_no_parameter_of_a_notebook() -> None:
    with pytest.raises(InvalidSettings, match="papermill writes those into its output") as refused:
        Step.from_notebook({"api_key": SECRET})
    assert SECRET not in str(refused.value)
    assert Step.from_notebook({"api_key": None}).api_key is None


def test_a_namespace_gives_its_plain_public_names() -> None:
    namespace = {"base": "a", "_hidden": 1, "os": os, "step": Step(), "In": ["x = 1"], "length": 32}
    assert Step.from_notebook(namespace) == Step(base="a", length=32)
    with pytest.raises(InvalidSettings, match="did you mean 'length'"):
        Step.from_notebook({"lenght": 32})


def test_a_script_is_read_by_its_global_names() -> None:
    script = "from nbtoolkit.settings import Settings\nbase = 'a'\nresult = Needy.from_notebook()"
    names: dict[str, Any] = {"__name__": "script", "Needy": Needy}
    exec(compile(script, "script.py", "exec"), names)
    assert names["result"] == Needy(base="a")


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


def test_papermill_runs_it_and_fails_on_a_wrong_name(
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
