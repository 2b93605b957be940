"""The record of the Azure resources that this workspace created: a teardown deletes nothing else.

A run records the resources that it is about to create before its first request, and confirms them once Azure
reports them created. A run that is killed loses nothing, and one that never started claims nothing. Besides
the record, the deployment of a run and the tag of a resource prove that this workspace created it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nbtoolkit.azure.arm import delete
from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.resource_id import is_within, kind_of
from nbtoolkit.errors import AzureFailed, BrokenFile
from nbtoolkit.progress import Progress
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.json_file import read_object
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

RUN_TAG = "nbtoolkit-run"
"""Tag of a deployment: the run that started it."""
MARK_TAG = "nbtoolkit-workspace"
"""Tag of a resource: the workspace that created it; the template writes it."""
_FILE = "azure-created.json"


class ProvisionRun(BaseModel):
    """The last run that started a deployment; the resources in ``intended`` are not confirmed yet."""

    model_config = ConfigDict(frozen=True)

    id: str
    deployment: str
    intended: tuple[str, ...]


class _Record(BaseModel):
    mark: str = ""
    resources: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    run: ProvisionRun | None = None


def recall(workspace: Workspace) -> tuple[str, ...]:
    """Return the ids of the resources that this workspace created and has not deleted, oldest first.

    Raises :class:`BrokenFile` if the record is damaged.
    """
    return _read(workspace).resources


def remember(workspace: Workspace, ids: Iterable[str]) -> None:
    """Add resources to the record."""
    _update(workspace, resources=_merge(_read(workspace).resources, ids))


def forget(workspace: Workspace, ids: Iterable[str]) -> None:
    """Remove resources, and everything inside of them, from the record."""
    removed = tuple(ids)
    record = _read(workspace)

    def kept(known: Iterable[str]) -> tuple[str, ...]:
        return tuple(id_ for id_ in known if not is_within(id_, removed))

    _update(workspace, resources=kept(record.resources), besides=kept(record.besides))


def kept_on_teardown(workspace: Workspace) -> tuple[str, ...]:
    """Return what this workspace created and a teardown keeps: its resource group, added profiles."""
    return _read(workspace).besides


def remember_kept(workspace: Workspace, id_: str) -> None:
    """Record something that a teardown reports and keeps."""
    _update(workspace, besides=_merge(_read(workspace).besides, [id_]))


def workspace_mark(workspace: Workspace) -> str:
    """Return the id of this workspace, a tag of the resources it creates; generated at the first call."""
    mark = _read(workspace).mark or secrets.token_hex(8)
    _update(workspace, mark=mark)
    return mark


def begin_run(workspace: Workspace, deployment: str, ids: Iterable[str]) -> str:
    """Record the resources that a deployment, given by its id, is about to create; return the run's id."""
    previous = last_run(workspace)
    intended = _merge(previous.intended if previous else (), ids)
    run = ProvisionRun(id=secrets.token_hex(8), deployment=deployment, intended=intended)
    _update(workspace, run=run)
    return run.id


def last_run(workspace: Workspace) -> ProvisionRun | None:
    """Return the last run that started, None if there was none."""
    return _read(workspace).run


def started_here(workspace: Workspace, deployment: ArmDeployment, tags: object) -> bool:
    """Return whether the last run of this workspace started the deployment with these tags."""
    run = last_run(workspace)
    if run is None or run.deployment.lower() != deployment.id.lower():
        return False
    return isinstance(tags, dict) and tags.get(RUN_TAG) == run.id


def created_by_last_run(
    workspace: Workspace, cloud: Cloud, progress: Progress
) -> tuple[list[str], list[str]]:
    """Return the unconfirmed resources that the last run created, and those that Azure may still create.

    Sends no request if all are confirmed. Raises :class:`AzureFailed`.
    """
    run = last_run(workspace)
    if run is None or not run.intended:
        return [], []
    deployment = ArmDeployment.of_id(cloud, run.deployment)
    state = run_cancellable(progress, deployment.state)
    ours = state is not None and started_here(workspace, deployment, state.tags)
    operations = run_cancellable(progress, deployment.operations) if ours else []
    by_id = {operation.id.lower(): operation for operation in operations}
    created: list[str] = []
    pending: list[str] = []
    for id_ in run.intended:
        operation = by_id.get(id_.lower())
        succeeded = operation is not None and operation.status == "Succeeded"
        if succeeded or is_marked(workspace, cloud, id_, progress):
            created.append(id_)
        elif is_within(id_, created) and run_cancellable(progress, lambda id_=id_: delete.exists(cloud, id_)):
            created.append(id_)  # everything inside of a resource of ours is ours
        elif state is not None and ours and (state.running or (operation is not None and operation.running)):
            pending.append(id_)
    return created, pending


def reconcile(workspace: Workspace, cloud: Cloud, progress: Progress) -> bool:
    """Record what the last run created; return whether its deployment ended. Raises :class:`AzureFailed`."""
    run = last_run(workspace)
    if run is None or not run.intended:
        return True
    created, pending = created_by_last_run(workspace, cloud, progress)
    resources = _merge(_read(workspace).resources, created)
    _update(workspace, resources=resources, run=run.model_copy(update={"intended": tuple(pending)}))
    return not pending


def is_marked(workspace: Workspace, cloud: Cloud, id_: str, progress: Progress) -> bool:
    """Return whether a resource exists and has this workspace's tag; False for kinds without tags."""
    if kind_of(id_) not in delete.TAGGED_KINDS:
        return False
    body = run_cancellable(progress, lambda: delete.get_resource(cloud, id_))
    return body is not None and (body.get("tags") or {}).get(MARK_TAG) == workspace_mark(workspace)


def reconcile_if_reachable(workspace: Workspace, cloud: Cloud, progress: Progress) -> None:
    """Record what the last run created; if Azure does not respond, leave that to the next run."""
    try:
        reconcile(workspace, cloud, progress)
    except AzureFailed:
        progress.note("the next run records the created resources: Azure does not respond at present")


def _merge(known: Iterable[str], ids: Iterable[str]) -> tuple[str, ...]:
    """Return all ids, each once; case does not matter."""
    merged: dict[str, str] = {}
    for id_ in (*known, *ids):
        merged.setdefault(id_.casefold(), id_)
    return tuple(merged.values())


def _read(workspace: Workspace) -> _Record:
    path = workspace.state / _FILE
    if not path.exists():
        return _Record()
    try:
        return _Record.model_validate(read_object(path))
    except ValidationError as error:
        raise BrokenFile(
            f"{path} does not list the resources that were created.",
            next_step="delete it; then only the app itself can be torn down from here",
            path=path,
        ) from error


def _update(workspace: Workspace, **changes: Any) -> None:
    """Write the record if a change differs from the file."""
    path, record = workspace.state / _FILE, _read(workspace)
    changed = record.model_copy(update=changes)
    if not path.exists() or changed != record:
        write_atomically(path, changed.model_dump_json(indent=2).encode())
