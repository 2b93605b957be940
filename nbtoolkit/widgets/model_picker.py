"""Adapters and base models that lie in a workspace, to pick from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nbtoolkit.workspace import Workspace

_DEPTH = 5
_FOLDERS = 4000  # a workspace in somebody's home must not keep a form from opening
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "venv", "env"}
_NAMELESS = ("adapter", "checkpoint", "output", "final", "best", "lora")


def adapter_lines(workspace: Workspace) -> list[str]:
    """Return ``name = folder`` for every LoRA folder, relative to the workspace.

    A folder with a name that says nothing, such as ``adapter``, is named after the one above it.
    """
    lines: dict[str, str] = {}
    for folder, files in _folders(workspace):
        if "adapter_config.json" in files:
            relative = folder.relative_to(workspace.root)
            lines.setdefault(_name(relative), relative.as_posix())
    return [f"{name} = {path}" for name, path in lines.items()]


def adapter_folders(workspace: Workspace) -> list[str]:
    """Return every LoRA folder, relative to the workspace."""
    found = (folder for folder, files in _folders(workspace) if "adapter_config.json" in files)
    return [folder.relative_to(workspace.root).as_posix() for folder in found]


def base_folders(workspace: Workspace) -> list[str]:
    """Return every folder of a base model, relative to the workspace, the cached ones included."""
    weights = {"model.safetensors", "model.safetensors.index.json"}
    found = [folder for folder, files in _folders(workspace) if "config.json" in files and weights & files]
    found += [file.parent for file in sorted(workspace.cache.glob("*/config.json"))]
    return [folder.relative_to(workspace.root).as_posix() for folder in found]


def _folders(workspace: Workspace) -> Iterator[tuple[Path, set[str]]]:
    for seen, (parent, folders, files) in enumerate(os.walk(workspace.root)):
        folder = Path(parent)
        if seen > _FOLDERS:
            return
        deep = len(folder.relative_to(workspace.root).parts) >= _DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield folder, set(files)


def _name(folder: Path) -> str:
    parts = [part for part in folder.parts if not part.lower().startswith(_NAMELESS)]
    return (parts or folder.parts or ("adapter",))[-1]
