"""Imports go down only, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

LAYERS = {
    "L0": ("_version", "errors", "progress", "installation", "utils"),
    "L1": ("workspace", "settings", "infra_files", "filestore", "models"),
    "L2": ("sync", "releases", "container_runtime", "endpoint", "golden", "target"),
    "L3": ("local", "azure", "target_factory"),
    "L4": ("smoke", "deployment", "inference", "provisioning", "operate", "demo"),
    "L5": ("widgets",),
}
SHARED_SCHEMA = (
    "serving.release",
    "serving.adapter_modules",
    "serving.engine_rules",
    "serving.share_layout",
    "serving.fingerprint",
    "serving.content_hash",
    "serving.dtype",
    "serving.stop_tokens",
    "serving.chat_template",
    "serving.openai_format",
)
"""What the kernel's program may import of the server's: schema, layout and pure functions."""

ONLY_IN = {
    "torch": ("serving/engines/transformers/", "smoke/model_level/", "demo/"),
    "transformers": ("serving/engines/transformers/", "smoke/model_level/", "demo/"),
    "peft": ("serving/engines/transformers/", "smoke/model_level/", "demo/"),
    "fastapi": ("serving/",),
    "gradio": ("serving/gateway/",),
    "ipywidgets": ("widgets/",),
    "IPython": ("widgets/",),
    "azure": ("azure/",),
}


def modules(package: Path) -> list[Path]:
    return sorted(package.rglob("*.py"))


def imports(path: Path, package: Path) -> set[str]:
    """Return the absolute names of all modules that a file imports, at any depth of its code."""
    here = ["nbtoolkit", *path.relative_to(package).with_suffix("").parts]
    if here[-1] == "__init__":
        here.pop()
        here.append("")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found.add(module)
            if module == "nbtoolkit" or module.startswith("nbtoolkit."):
                found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def layer_of(name: str) -> str | None:
    top = name.removeprefix("nbtoolkit.").split(".")[0]
    return next((layer for layer, names in LAYERS.items() if top in names), None)


def test_imports_go_down_only(repo: Path) -> None:
    package = repo / "nbtoolkit"
    wrong: list[str] = []
    for path in modules(package):
        relative = path.relative_to(package).as_posix()
        if relative == "__init__.py":
            continue
        top = path.relative_to(package).parts[0].removesuffix(".py")
        mine = layer_of(top)
        assert top == "serving" or mine, f"{relative} belongs to no layer: add it to LAYERS"
        for name in imports(path, package):
            if not name.startswith("nbtoolkit."):
                continue
            target = name.removeprefix("nbtoolkit.")
            if top == "serving":
                if not target.startswith("serving"):
                    wrong.append(f"{relative} imports {name}: the server imports nothing else of nbtoolkit")
            elif target.startswith("serving"):
                if target != "serving" and not target.startswith(SHARED_SCHEMA):
                    wrong.append(f"{relative} imports {name}: only the schema is shared")
            elif (layer := layer_of(target)) and mine and layer > mine:
                wrong.append(f"{relative} ({mine}) imports {name} ({layer})")
    assert wrong == []


def test_no_import_cycle(repo: Path) -> None:
    """Lazy imports and imports for types only count too."""
    package = repo / "nbtoolkit"
    paths = {module_name(path, package): path for path in modules(package)}
    assert cycle({name: edges(path, package, paths.keys()) - {name} for name, path in paths.items()}) == []


def test_a_cycle_is_found(tmp_path: Path) -> None:
    package = tmp_path / "nbtoolkit"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text("from nbtoolkit import b\n")
    (package / "b.py").write_text("def late():\n    from nbtoolkit.a import x\n")
    paths = {module_name(path, package): path for path in modules(package)}
    assert cycle({name: edges(path, package, paths.keys()) for name, path in paths.items()}) == [
        "nbtoolkit.a",
        "nbtoolkit.b",
    ]


def edges(path: Path, package: Path, known: Collection[str]) -> set[str]:
    """Return the modules that a file imports; ``from package import module`` counts as that module."""
    found = imports(path, package) & set(known)
    for name in [*found]:
        parent = name.rpartition(".")[0]
        if parent in found and not imports_a_name(path, package, parent, known):
            found.discard(parent)
    return found


def imports_a_name(path: Path, package: Path, module: str, known: Collection[str]) -> bool:
    """Return whether a file imports something of a module that is not a submodule."""
    return any(
        name.rpartition(".")[0] == module and name not in known for name in imports(path, package)
    ) or any(
        isinstance(node, ast.Import) and any(alias.name == module for alias in node.names)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle, sorted; an empty list if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return sorted(set(error.args[1]))
    return []


def test_every_class_name_is_unique(repo: Path) -> None:
    package = repo / "nbtoolkit"
    homes: dict[str, list[str]] = {}
    for path in modules(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path.relative_to(package).as_posix())
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_heavy_libraries_stay_in_their_place(repo: Path) -> None:
    package = repo / "nbtoolkit"
    wrong: list[str] = []
    for path in modules(package):
        relative = path.relative_to(package).as_posix()
        for name in imports(path, package):
            places = ONLY_IN.get(name.split(".")[0])
            if places and not relative.startswith(places):
                wrong.append(f"{relative} imports {name}")
    assert wrong == []


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, nbtoolkit\n"
        "heavy = {'torch', 'azure', 'ipywidgets', 'gradio', 'transformers', 'peft', 'IPython', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", __import__("nbtoolkit").__all__)
def test_every_exported_name_is_there(name: str) -> None:
    import nbtoolkit

    assert getattr(nbtoolkit, name).__doc__


def test_nothing_private_is_exported() -> None:
    import nbtoolkit

    assert nbtoolkit.__all__ == sorted(nbtoolkit.__all__)
    assert not [name for name in nbtoolkit.__all__ if name.startswith("_")]
