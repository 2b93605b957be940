"""Public names of model folders, and the layout of the Hugging Face cache."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_MAX_NAME = 100


def public_name(folder: Path | str) -> str:
    """Return the name under which a folder is served unless another one is given.

    It is the folder's name, with every run of blanks and other characters that a public name cannot have
    replaced by a hyphen. A snapshot in the hub cache, which is named by commit, has the repository's name.
    """
    path = Path(os.path.normpath(Path(folder).absolute()))  # a link keeps its own name
    name = path.name
    if (repository := cached_repository(path)) and repository == path.parent.parent:
        name = repository.name.rpartition("--")[2]
    words = re.sub(r"[^\w.:-]+", "-", unicodedata.normalize("NFC", name))
    return words.lstrip("-._:").rstrip("-")[:_MAX_NAME] or name


def not_a_file(folder: Path, names: Iterable[str]) -> str:
    """Return which of these names is a broken link or a folder, and not a file; an empty text if none is."""
    for name in names:
        path = folder / name
        if path.is_dir():
            return f"{name} is a folder, not a file"
        if path.is_symlink() and not path.exists():
            return f"{name} is a broken link, to {path.readlink()}"
    return ""


def cached_repository(folder: Path) -> Path | None:
    """Return ``models--org--name`` of the hub cache if a folder is, or is inside, one of its snapshots."""
    for parent in folder.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            return parent.parent
    return None


def hub_source(folder: Path) -> str | None:
    """Return ``org/name@commit`` of a folder that is, or is inside, a snapshot in the hub cache."""
    repository = cached_repository(folder)
    if repository is None:
        return None
    name = repository.name.removeprefix("models--").replace("--", "/")
    return f"{name}@{folder.relative_to(repository / 'snapshots').as_posix()}"
