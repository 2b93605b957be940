"""Whether this workspace created a resource: by Azure's own account of its run, or by the mark it carries."""

from __future__ import annotations

from nbtoolkit.azure import resource_id as resource_ids
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm import delete as removal
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
    """Tell whether the last run of this workspace started a deployment that carries these tags."""
    run = created.last_run(workspace)
    if run is None or run.deployment.lower() != deployment.id.lower():
        return False
    return isinstance(tags, dict) and tags.get(RUN_TAG) == run.id


def made(workspace: Workspace, cloud: Cloud, progress: Progress) -> tuple[list[str], list[str]]:
    """Return what the last run has created and nobody noted yet, and what Azure may still create for it.

    No request where all is noted. Raises :class:`AzureFailed`.
    """
    run = created.last_run(workspace)
    if run is None or not run.intended:
        return [], []
    deployment = ArmDeployment.of_id(cloud, run.deployment)
    state = run_cancellable(progress, deployment.state)
    own = state is not None and started_here(workspace, deployment, state.tags)
    steps = {one.id.lower(): one for one in run_cancellable(progress, deployment.steps)} if own else {}
    found: list[str] = []
    still: list[str] = []
    for id_ in run.intended:
        step = steps.get(id_.lower())
        inside = any(id_.lower().startswith(f"{parent.lower()}/") for parent in found)
        if (step is not None and step.status == "Succeeded") or is_marked(workspace, cloud, id_, progress):
            found.append(id_)
        elif inside and run_cancellable(progress, lambda id_=id_: removal.exists(cloud, id_)):
            found.append(id_)  # what is ours is so with all that lies in it
        elif own and state is not None and (state.running or (step is not None and step.running)):
            still.append(id_)
    return found, still


def reconcile(workspace: Workspace, cloud: Cloud, progress: Progress) -> bool:
    """Note what the last run has created; tell whether Azure is done with it. Raises :class:`AzureFailed`."""
    run = created.last_run(workspace)
    if run is None or not run.intended:
        return True
    found, still = made(workspace, cloud, progress)
    created.reconcile(workspace, found, still)
    return not still


def is_marked(workspace: Workspace, cloud: Cloud, id_: str, progress: Progress) -> bool:
    """Tell whether a resource is there and carries this workspace's mark; False for kinds without tags."""
    if resource_ids.kind_of(id_) not in removal.MARKED:
        return False
    tags = run_cancellable(progress, lambda: removal.tags(cloud, id_))
    return tags is not None and tags.get(MARK_TAG) == created.mark(workspace)


def settle_quietly(workspace: Workspace, cloud: Cloud, progress: Progress) -> None:
    """Settle where Azure answers; the next run does it otherwise."""
    try:
        reconcile(workspace, cloud, progress)
    except AzureFailed:
        progress.note("what was created is noted by the next run: Azure does not answer now")
