"""Settings check themselves, and read what a notebook's parameters cell has set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.settings import Settings
from nbtoolkit.settings.sources import assigned_names

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
    ("source", "names"),
    [
        ("a = 1\nb: int = -2\nc = {'x': [None, (1.5,)]}", ["a", "b", "c"]),
        ('"""Parameters"""\nfrom pathlib import Path\nfolder = Path("a") / "b"', ["folder"]),
        ("a = b = 4 * 1024  # KiB", ["a", "b"]),
        ("# Parameters\nlength = float('inf')", ["length"]),
        ("# only a comment", []),
        ("a = f()", None),
        ("a, b = 1, 2", None),
        ("a = 1\nprint(a)", None),
        ("import os", None),
        ("%matplotlib inline", None),
        ("settings = Step.from_notebook()", None),
    ],
)
def test_a_parameters_cell_holds_nothing_but_plain_assignments(source: str, names: list[str] | None) -> None:
    assert assigned_names(source) == names


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


def test_other_cells_and_their_names_do_not_matter(notebook: Notebook) -> None:
    step = notebook.run(
        "base = 'a'", "result = len('abc')\nlength = 512 + result", "def f():\n    return 1", READ
    )
    assert (step.base, step.length) == ("a", 64)


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
