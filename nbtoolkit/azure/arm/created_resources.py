"""The record of the Azure resources that this workspace created: a teardown deletes nothing else.

A run records the resources that it is about to create before its first request, and confirms them once Azure
reports them created. A run that is killed loses nothing, and one that never started claims nothing.
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
class ProvisionRun:
    """The last run that started a deployment; the resources in ``intended`` are not confirmed yet."""

    id: str
    deployment: str
    intended: tuple[str, ...] = ()


def recall(workspace: Workspace) -> tuple[str, ...]:
    """Return the ids of the resources that this workspace created and has not deleted, oldest first.

    Raises :class:`BrokenFile` if the record is damaged.
    """
    return tuple(_read(workspace)["resources"])


def remember(workspace: Workspace, ids: Iterable[str]) -> None:
    """Add resources to the record."""
    record = _read(workspace)
    _save(workspace, record, resources=_merge(record["resources"], ids))


def forget(workspace: Workspace, ids: Iterable[str]) -> None:
    """Remove resources, and everything inside of them, from the record."""
    parents = [id_.casefold() for id_ in ids]
    record = _read(workspace)

    def kept(key: str) -> list[str]:
        return [id_ for id_ in record[key] if not any(_is_in(id_.casefold(), parent) for parent in parents)]

    _save(workspace, record, resources=kept("resources"), besides=kept("besides"))


def kept_on_teardown(workspace: Workspace) -> tuple[str, ...]:
    """Return what this workspace created and a teardown keeps: its resource group, added profiles."""
    return tuple(_read(workspace)["besides"])


def remember_kept(workspace: Workspace, id_: str) -> None:
    """Record something that a teardown reports and keeps."""
    record = _read(workspace)
    _save(workspace, record, besides=_merge(record["besides"], [id_]))


def workspace_mark(workspace: Workspace) -> str:
    """Return the id of this workspace, a tag of the resources it creates; generated at the first call."""
    record = _read(workspace)
    mark = str(record["mark"]) or secrets.token_hex(8)
    _save(workspace, record, mark=mark)
    return mark


def begin_run(workspace: Workspace, deployment: str, ids: Iterable[str]) -> str:
    """Record the resources that a deployment, given by its id, is about to create; return the run's id."""
    previous = last_run(workspace)
    unconfirmed = previous.intended if previous else ()
    run_id = secrets.token_hex(8)
    run = {"id": run_id, "deployment": deployment, "intended": _merge(unconfirmed, ids)}
    _save(workspace, _read(workspace), run=run)
    return run_id


def last_run(workspace: Workspace) -> ProvisionRun | None:
    """Return the last run that started, None if there was none."""
    run = _read(workspace)["run"]
    return ProvisionRun(run["id"], run["deployment"], tuple(run["intended"])) if run else None


def confirm(workspace: Workspace, created: Iterable[str], pending: Iterable[str]) -> None:
    """Record what the last run created; of its other resources only ``pending`` stay intended."""
    record = _read(workspace)
    resources = _merge(record["resources"], created)
    _save(workspace, record, resources=resources, run={**record["run"], "intended": list(pending)})


def _merge(known: Iterable[str], ids: Iterable[str]) -> list[str]:
    """Return all ids, each once; case does not matter."""
    merged: dict[str, str] = {}
    for id_ in (*known, *ids):
        merged.setdefault(id_.casefold(), id_)
    return list(merged.values())


def _is_in(resource: str, parent: str) -> bool:
    return resource == parent or resource.startswith(f"{parent}/")


def _path(workspace: Workspace) -> Path:
    return workspace.state / "azure-created.json"


def _read(workspace: Workspace) -> dict[str, Any]:
    path = _path(workspace)
    record: dict[str, Any] = {"mark": "", "resources": [], "besides": [], "run": None}
    if not path.exists():
        return record
    record |= read_object(path)
    if not (_are_texts(record["resources"]) and _are_texts(record["besides"]) and _is_run(record["run"])):
        raise BrokenFile(
            f"{path} does not list the resources that were created.",
            next_step="delete it; then only the app itself can be torn down from here",
            path=path,
        )
    return record


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_run(value: Any) -> bool:
    if value is None:
        return True
    texts = isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("id", "deployment"))
    return texts and _are_texts(value.get("intended"))


def _save(workspace: Workspace, record: Mapping[str, Any], **changes: Any) -> None:
    """Write the record if it differs from the file."""
    path, content = _path(workspace), {**record, **changes}
    if not path.exists() or read_object(path) != content:
        write_atomically(path, json.dumps(content, indent=2).encode())
