"""Rules that hold for the whole repository."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

TOP = {
    "notebooks", "nbtoolkit", "infra", "tests", "environment.yml", "README.md", "CONTRIBUTING.md",
    "CHANGELOG.md", "LICENSE", "pyproject.toml", "constraints.txt", "Makefile",
}  # fmt: skip


def tracked(repo: Path) -> list[str]:
    out = subprocess.run(["git", "ls-files"], cwd=repo, capture_output=True, text=True, check=True)
    return out.stdout.split("\n")[:-1]


def constraints(repo: Path) -> dict[str, str]:
    lines = (repo / "constraints.txt").read_text().splitlines()
    pairs = [line.split(" ")[0].split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in pairs}


def test_top_level_has_only_the_listed_files(repo: Path) -> None:
    top = {name.split("/")[0] for name in tracked(repo)}
    assert {name for name in top if not name.startswith(".")} == TOP


def test_conda_and_make_install_the_same(repo: Path) -> None:
    lines = [line.strip(" -\n") for line in (repo / "environment.yml").read_text().splitlines()]
    makefile = (repo / "Makefile").read_text()
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    assert "name: nbtoolkit" in lines
    assert "c constraints.txt" in lines
    extras = next(line for line in lines if line.startswith("e ."))
    assert f"-e '{extras.removeprefix('e ')}'" in makefile
    version = next(line for line in lines if line.startswith("python=")).removeprefix("python=")
    assert project["requires-python"] == f">={version}"


def test_every_dependency_is_pinned(repo: Path) -> None:
    config = tomllib.loads((repo / "pyproject.toml").read_text())
    project = config["project"]
    wanted = [*project["dependencies"], *config["dependency-groups"]["dev"]]
    wanted += [r for name, extra in project["optional-dependencies"].items() if name != "nf4" for r in extra]
    names = {re.split(r"[\[<>=~ ]", requirement)[0].lower() for requirement in wanted} - {project["name"]}
    pinned = constraints(repo)
    assert names - pinned.keys() == set()
    assert pinned["torch"] == "2.13.0"


def test_notebooks_are_committed_without_outputs(repo: Path) -> None:
    notebooks = sorted((repo / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        notebook = json.loads(path.read_text())
        assert notebook["metadata"]["kernelspec"]["name"] == "python3", path.name
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert [c for c in code if c["outputs"] or c["execution_count"]] == [], path.name
        first = code[0]
        assert "parameters" in first["metadata"].get("tags", []), path.name


def test_every_file_is_on_the_map(repo: Path) -> None:
    page = (repo / "CONTRIBUTING.md").read_text()
    missing = [
        name
        for name in tracked(repo)
        if name.startswith("nbtoolkit/") and name.endswith(".py") and f"`{name}`" not in page
    ]
    assert missing == []
    named = re.findall(r"^\| `(nbtoolkit/[^`]+\.py)`", page, flags=re.MULTILINE)
    assert [name for name in named if not (repo / name).is_file()] == []


def test_readme_names_the_two_commands(repo: Path) -> None:
    readme = (repo / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pkl"])
def test_no_pickle_is_committed(repo: Path, suffix: str) -> None:
    assert [name for name in tracked(repo) if name.endswith(suffix)] == []


def test_no_test_module_imports_another_one(repo: Path) -> None:
    imported = re.compile(
        r"^\s*(?:from|import) [\w.]*\btest_\w+|^\s*from [\w.]+ import .*\btest_\w+", re.MULTILINE
    )
    modules = [name for name in tracked(repo) if re.fullmatch(r"tests/.*\.py", name)]
    found = {name: imported.findall((repo / name).read_text(encoding="utf-8")) for name in modules}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_product_starts_threads_in_two_modules_only(repo: Path) -> None:
    modules = [name for name in tracked(repo) if re.fullmatch(r"nbtoolkit/.*\.py", name)]
    starting = {name for name in modules if "threading.Thread(" in (repo / name).read_text(encoding="utf-8")}
    assert starting == {"nbtoolkit/utils/threads.py", "nbtoolkit/serving/threads.py"}
