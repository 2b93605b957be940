"""What this workspace created on Azure, remembered so that a teardown deletes nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from nbtoolkit.atomic_file import write_atomically
from nbtoolkit.errors import BrokenFile
from nbtoolkit.json_text import read_object
from nbtoolkit.workspace import Workspace


def recall(workspace: Workspace) -> tuple[str, ...]:
    """Return the ids of the resources that this workspace created and has not deleted, oldest first.

    Raises :class:`BrokenFile` where the note of them was damaged.
    """
    path = _path(workspace)
    if not path.exists():
        return ()
    ids = read_object(path).get("resources")
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise BrokenFile(
            f"{path} does not list the resources that were created.",
            next_step="delete it; then only the app itself can be torn down from here",
            path=path,
        )
    return tuple(ids)


def remember(workspace: Workspace, ids: Iterable[str]) -> None:
    """Note resources as created by this workspace; those that are noted stay."""
    known = recall(workspace)
    seen = {one.casefold() for one in known}
    new = [one for one in dict.fromkeys(ids) if one.casefold() not in seen]
    if new:
        _save(workspace, (*known, *new))


def forget(workspace: Workspace, ids: Iterable[str]) -> None:
    """Take resources off the note, and with each all that lay in it."""
    gone = [one.casefold() for one in ids]
    known = recall(workspace)
    kept = [one for one in known if not any(_within(one.casefold(), parent) for parent in gone)]
    if len(kept) != len(known):
        _save(workspace, kept)


def _within(resource: str, parent: str) -> bool:
    return resource == parent or resource.startswith(f"{parent}/")


def _path(workspace: Workspace) -> Path:
    return workspace.state / "azure-created.json"


def _save(workspace: Workspace, ids: Iterable[str]) -> None:
    write_atomically(_path(workspace), json.dumps({"resources": list(ids)}, indent=2).encode())
