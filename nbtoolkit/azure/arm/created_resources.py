"""What this workspace created on Azure, remembered so that a teardown deletes nothing else.

What a run is about to create is noted before it asks Azure, and counts as created once Azure has said so:
a run that is killed loses nothing, and one that never began claims nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbtoolkit.errors import BrokenFile
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.json_file import read_object
from nbtoolkit.workspace import Workspace


@dataclass(frozen=True)
class Run:
    """The last run that started a deployment, by a name of its own; ``intended`` is not confirmed yet."""

    id: str
    deployment: str
    intended: tuple[str, ...] = ()


def recall(workspace: Workspace) -> tuple[str, ...]:
    """Return the ids of the resources that this workspace created and has not deleted, oldest first.

    Raises :class:`BrokenFile` where the note of them was damaged.
    """
    return tuple(_read(workspace)["resources"])


def remember(workspace: Workspace, ids: Iterable[str]) -> None:
    """Note resources as created by this workspace; those that are noted stay."""
    note = _read(workspace)
    _save(workspace, note, resources=_joined(note["resources"], ids))


def forget(workspace: Workspace, ids: Iterable[str]) -> None:
    """Take resources off the note, and with each all that lay in it."""
    gone = [one.casefold() for one in ids]
    note = _read(workspace)
    _save(
        workspace,
        note,
        **{
            kind: [one for one in note[kind] if not any(_within(one.casefold(), parent) for parent in gone)]
            for kind in ("resources", "besides")
        },
    )


def besides(workspace: Workspace) -> tuple[str, ...]:
    """Return what this workspace made and a teardown leaves: its resource group, machines it added."""
    return tuple(_read(workspace)["besides"])


def remember_besides(workspace: Workspace, id_: str) -> None:
    """Note something that a teardown names and leaves."""
    note = _read(workspace)
    _save(workspace, note, besides=_joined(note["besides"], [id_]))


def mark(workspace: Workspace) -> str:
    """Return this workspace's own mark, made at the first call: what it creates carries it as a tag."""
    note = _read(workspace)
    found = str(note["mark"]) or secrets.token_hex(8)
    _save(workspace, note, mark=found)
    return found


def begin(workspace: Workspace, deployment: str, ids: Iterable[str]) -> str:
    """Note what a deployment, by its id, is about to create; return the run's name."""
    before = last_run(workspace)
    open_ = before.intended if before else ()
    name = secrets.token_hex(8)
    run = {"id": name, "deployment": deployment, "intended": _joined(open_, ids)}
    _save(workspace, _read(workspace), run=run)
    return name


def last_run(workspace: Workspace) -> Run | None:
    """Return the last run that began, None where none did."""
    run = _read(workspace)["run"]
    return Run(run["id"], run["deployment"], tuple(run["intended"])) if run else None


def reconcile(workspace: Workspace, made: Iterable[str], still_open: Iterable[str]) -> None:
    """Note what the last run has created; of the rest it claims only what is ``still_open``."""
    note = _read(workspace)
    resources = _joined(note["resources"], made)
    _save(workspace, note, resources=resources, run={**note["run"], "intended": list(still_open)})


def _joined(known: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return the ids, each once whatever its case."""
    found: dict[str, str] = {}
    for one in (*known, *ids):
        found.setdefault(one.casefold(), one)
    return list(found.values())


def _within(resource: str, parent: str) -> bool:
    return resource == parent or resource.startswith(f"{parent}/")


def _path(workspace: Workspace) -> Path:
    return workspace.state / "azure-created.json"


def _read(workspace: Workspace) -> dict[str, Any]:
    path = _path(workspace)
    note: dict[str, Any] = {"mark": "", "resources": [], "besides": [], "run": None}
    if not path.exists():
        return note
    note |= read_object(path)
    if not (_are_texts(note["resources"]) and _are_texts(note["besides"]) and _is_run(note["run"])):
        raise BrokenFile(
            f"{path} does not list the resources that were created.",
            next_step="delete it; then only the app itself can be torn down from here",
            path=path,
        )
    return note


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_run(value: Any) -> bool:
    if value is None:
        return True
    texts = isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("id", "deployment"))
    return texts and _are_texts(value.get("intended"))


def _save(workspace: Workspace, note: Mapping[str, Any], **changes: Any) -> None:
    """Write the note where it differs from the file."""
    path, wanted = _path(workspace), {**note, **changes}
    if not path.exists() or read_object(path) != wanted:
        write_atomically(path, json.dumps(wanted, indent=2).encode())
