"""Checks that must hold on a share at any time: every published release is complete."""

from __future__ import annotations

import json
from pathlib import Path

from nbtoolkit import Adapter, Release
from nbtoolkit.filestore import temp_files
from nbtoolkit.serving import share_layout
from nbtoolkit.serving.content_hash import code_sha256
from nbtoolkit.serving.share_layout import Pointer


def pointers(root: Path) -> list[Pointer]:
    """Return all pointers on a share, oldest first; raises ValueError for a broken one."""
    found = [
        Pointer.model_validate_json(path.read_text())
        for path in (root / share_layout.ACTIVE).glob("*.json")
        if not temp_files.is_temporary(path.name)
    ]
    return sorted(found, key=lambda pointer: pointer.n)


def share_problems(root: Path) -> list[str]:
    """Return what is published and incomplete."""
    problems: list[str] = []
    folder = root / share_layout.ACTIVE
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if temp_files.is_temporary(path.name):
            continue
        try:
            pointer = Pointer.model_validate_json(path.read_text())
        except ValueError as error:
            problems.append(f"{path.name} is not a pointer: {error}")
            continue
        if share_layout.pointer_number(path.name) != pointer.n:
            problems.append(f"{path.name} has the number {pointer.n}")
        problems += _release_problems(root, pointer.release)
    return problems


def _release_problems(root: Path, name: str) -> list[str]:
    try:
        release = Release.model_validate_json((root / share_layout.release_path(name)).read_text())
    except (OSError, ValueError) as error:
        return [f"{name} is published and cannot be read: {error}"]
    problems = [] if release.id == name else [f"{name} has the id {release.id}"]
    for adapter in release.adapters:
        try:
            found = Adapter.read(root / adapter.path).sha256
        except ValueError as error:
            found = str(error)
        if found != adapter.sha256:
            problems.append(f"{name} names the adapter {adapter.sha256}, which is {found}")
    if release.code.kind == "nbtoolkit" and release.code.sha256:
        found = code_sha256(root / share_layout.code_path(release.code.sha256) / share_layout.CODE_PACKAGE)
        if found != release.code.sha256:
            problems.append(f"{name} names the code {release.code.sha256}, which is {found}")
    return problems


def word_of(root: Path, pointer: Pointer) -> str:
    """Return the word that the stub engine answers under a pointer."""
    release = Release.model_validate_json((root / share_layout.release_path(pointer.release)).read_text())
    config = json.loads((root / release.adapters[0].path / "adapter_config.json").read_text())
    return str(config["says"])


def workspace_problems(workspace: Path) -> list[str]:
    """Return which files of ``.nbtoolkit/`` and ``infra/`` cannot be read or are temporary."""
    problems: list[str] = []
    files = [
        path
        for folder in (".nbtoolkit", "infra")
        for path in (workspace / folder).rglob("*")
        if path.is_file()
    ]
    for path in files:
        if path.suffix == ".json":
            try:
                json.loads(path.read_text())
            except ValueError as error:
                problems.append(f"{path.relative_to(workspace)} is broken: {error}")
        elif path.suffix in (".tmp", ".part"):
            problems.append(f"{path.relative_to(workspace)} was left behind")
    return problems
