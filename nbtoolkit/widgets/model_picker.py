"""Find the adapters and base models of a workspace, as suggestions for forms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nbtoolkit.workspace import Workspace

_MAX_DEPTH = 5
_MAX_FOLDERS = 4000  # so that a form opens quickly even if the workspace is a home directory
_SKIPPED = {"node_modules", "site-packages", "__pycache__", "venv", "env"}
_GENERIC_NAMES = ("adapter", "checkpoint", "output", "final", "best", "lora")


def adapter_lines(workspace: Workspace) -> list[str]:
    """Return ``name = folder`` for every LoRA folder, relative to the workspace.

    A folder with a generic name such as ``adapter`` gets the name of its parent.
    """
    lines: dict[str, str] = {}
    for folder in adapter_folders(workspace):
        lines.setdefault(_adapter_name(folder), folder)
    return [f"{name} = {folder}" for name, folder in lines.items()]


def adapter_folders(workspace: Workspace) -> list[str]:
    """Return every LoRA folder, relative to the workspace."""
    folders = (folder for folder, files in _walk(workspace) if "adapter_config.json" in files)
    return [folder.relative_to(workspace.root).as_posix() for folder in folders]


def base_folders(workspace: Workspace) -> list[str]:
    """Return every folder of a base model, relative to the workspace, including cached ones."""
    weights = {"model.safetensors", "model.safetensors.index.json"}
    folders = [folder for folder, files in _walk(workspace) if "config.json" in files and weights & files]
    folders += [file.parent for file in sorted(workspace.cache.glob("*/config.json"))]
    return [folder.relative_to(workspace.root).as_posix() for folder in folders]


def _walk(workspace: Workspace) -> Iterator[tuple[Path, set[str]]]:
    for count, (parent, folders, files) in enumerate(os.walk(workspace.root)):
        folder = Path(parent)
        if count > _MAX_FOLDERS:
            return
        deep = len(folder.relative_to(workspace.root).parts) >= _MAX_DEPTH
        folders[:] = [] if deep else sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield folder, set(files)


def _adapter_name(folder: str) -> str:
    parts = Path(folder).parts
    specific = [part for part in parts if not part.lower().startswith(_GENERIC_NAMES)]
    return (specific or parts or ("adapter",))[-1]
