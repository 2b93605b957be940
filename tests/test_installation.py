"""The distribution's name, the content of its wheel, and the install commands in messages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from hatchling.build import build_wheel

import nbtoolkit
from nbtoolkit.installation import DISTRIBUTION, install_hint

TEXTS = ("nbtoolkit", "notebooks", "infra", "README.md", "CONTRIBUTING.md", "environment.yml", "Makefile")
FOREIGN = re.compile(r"\bpip3?\s+install\b[^\n`]*\bnbtoolkit\b|\bnbtoolkit(-lora)?\[")
"""An installation by a name that this project does not own on PyPI."""


@pytest.fixture
def wheel(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repo)
    return tmp_path / build_wheel(str(tmp_path))


def project(repo: Path) -> dict[str, object]:
    return tomllib.loads((repo / "pyproject.toml").read_text())["project"]


def tracked(repo: Path, *paths: str) -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *paths]
    return subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_wheel_holds_the_package_and_the_template(repo: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{DISTRIBUTION.replace('-', '_')}-{nbtoolkit.__version__}.dist-info"
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        template = archive.read("nbtoolkit/azure/arm/inference.json")
    assert metadata["Name"] == DISTRIBUTION == project(repo)["name"]
    assert metadata["Version"] == nbtoolkit.__version__
    assert {name.split("/")[0] for name in names} == {"nbtoolkit", info}
    assert set(tracked(repo, "nbtoolkit")) <= names
    assert template == (repo / "infra" / "provision" / "inference.json").read_bytes()


def test_a_wheel_names_the_checkout_in_its_hint(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    (place / "pyproject.toml").write_text('[project]\nname = "another"\n')  # some wheels leave one there
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "from nbtoolkit.installation import install_hint; print(install_hint('model', 'demo'))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "in nbtoolkit's checkout: pip install -e '.[model,demo]'"


def test_a_checkout_is_named_by_its_path(repo: Path) -> None:
    assert install_hint("model") == f"pip install -e '{repo}[model]'"


def test_a_path_with_spaces_is_one_word_of_the_command(tmp_path: Path) -> None:
    root = tmp_path / "my work"
    root.mkdir()
    (root / "pyproject.toml").write_text(f'[project]\nname = "{DISTRIBUTION}"\n')
    assert install_hint("azure", root=root) == f"pip install -e '{root}[azure]'"


def test_no_text_installs_the_package_of_another_project(repo: Path) -> None:
    paths = tracked(repo, *TEXTS)
    assert {path.split("/")[0] for path in paths} == set(TEXTS)
    found = {
        path: match.group()
        for path in paths
        if (match := FOREIGN.search((repo / path).read_text(encoding="utf-8", errors="replace")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install nbtoolkit",
        "pip install -q -c constraints.txt 'nbtoolkit[model]'",
        "uv pip install nbtoolkit-lora",
        "next: nbtoolkit[azure]",
    ],
)
def test_install_command_of_another_project_is_detected(text: str) -> None:
    assert FOREIGN.search(text)


def test_messages_use_one_install_command(repo: Path) -> None:
    extras = set(tomllib.loads((repo / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    spelt: list[str] = []
    asked: set[str] = set()
    for path in tracked(repo, "nbtoolkit/*.py"):
        source = (repo / path).read_text(encoding="utf-8")
        if "pip install -e" in source:
            spelt.append(path)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "install_hint":
                asked.update(ast.literal_eval(argument) for argument in node.args)
    assert spelt == ["nbtoolkit/installation.py"]
    assert asked
    assert asked <= extras
