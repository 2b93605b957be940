"""Whether this workspace created a resource: by the deployment of its run, or by the resource's tag."""

from __future__ import annotations

from nbtoolkit.azure import resource_id as resource_ids
from nbtoolkit.azure.arm import created_resources, delete
from nbtoolkit.azure.arm.deployment import ArmDeployment
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.errors import AzureFailed
from nbtoolkit.progress import Progress
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace

RUN_TAG = "nbtoolkit-run"
"""Tag of a deployment: the run that started it."""
MARK_TAG = "nbtoolkit-workspace"
"""Tag of a resource: the workspace that created it; the template writes it."""


def started_here(workspace: Workspace, deployment: ArmDeployment, tags: object) -> bool:
    """Tell whether the last run of this workspace started the deployment with these tags."""
    run = created_resources.last_run(workspace)
    if run is None or run.deployment.lower() != deployment.id.lower():
        return False
    return isinstance(tags, dict) and tags.get(RUN_TAG) == run.id


def created_by_last_run(
    workspace: Workspace, cloud: Cloud, progress: Progress
) -> tuple[list[str], list[str]]:
    """Return the unconfirmed resources that the last run created, and those that Azure may still create.

    Sends no request if all are confirmed. Raises :class:`AzureFailed`.
    """
    run = created_resources.last_run(workspace)
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
        inside = any(id_.lower().startswith(f"{parent.lower()}/") for parent in created)
        succeeded = operation is not None and operation.status == "Succeeded"
        if succeeded or is_marked(workspace, cloud, id_, progress):
            created.append(id_)
        elif inside and run_cancellable(progress, lambda id_=id_: delete.exists(cloud, id_)):
            created.append(id_)  # everything inside of a resource of ours is ours
        elif state is not None and ours and (state.running or (operation is not None and operation.running)):
            pending.append(id_)
    return created, pending


def reconcile(workspace: Workspace, cloud: Cloud, progress: Progress) -> bool:
    """Record what the last run created; tell whether its deployment ended. Raises :class:`AzureFailed`."""
    run = created_resources.last_run(workspace)
    if run is None or not run.intended:
        return True
    created, pending = created_by_last_run(workspace, cloud, progress)
    created_resources.confirm(workspace, created, pending)
    return not pending


def is_marked(workspace: Workspace, cloud: Cloud, id_: str, progress: Progress) -> bool:
    """Tell whether a resource exists and has this workspace's tag; False for kinds without tags."""
    if resource_ids.kind_of(id_) not in delete.TAGGED_KINDS:
        return False
    tags = run_cancellable(progress, lambda: delete.tags(cloud, id_))
    return tags is not None and tags.get(MARK_TAG) == created_resources.workspace_mark(workspace)


def reconcile_if_reachable(workspace: Workspace, cloud: Cloud, progress: Progress) -> None:
    """Record what the last run created; if Azure does not respond, leave that to the next run."""
    try:
        reconcile(workspace, cloud, progress)
    except AzureFailed:
        progress.note("the next run records the created resources: Azure does not respond at present")
