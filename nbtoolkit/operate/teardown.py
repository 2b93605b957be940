"""End what costs money on Azure: the app alone, or all that this workspace created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from nbtoolkit.azure import resource_id as resource_ids
from nbtoolkit.azure.arm import created_resources as created
from nbtoolkit.azure.arm import delete as removal
from nbtoolkit.azure.arm import ownership
from nbtoolkit.azure.arm.delete import RemainingResource
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.errors import AzureFailed, Busy, InvalidSettings
from nbtoolkit.operate.teardown_dependents import log_workspace_of, needed_by_others, soft_deleted
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.utils.display import html_table, text_table
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace


class TeardownSettings(Settings):
    """What to delete; nothing is, until ``confirm_name`` is the app's name."""

    scope: Literal["app", "all"] = Field(
        default="app", description="app: the container app only; all: what this workspace created on Azure"
    )
    confirm_name: str = Field(
        default="", title="Name of the app", description="type the app's name to have it deleted"
    )


@dataclass(frozen=True)
class Teardown:
    """What a teardown deletes, or deleted where it is ``done``, and what is left and still costs."""

    app: str
    deletes: tuple[str, ...]
    left: tuple[RemainingResource, ...]
    done: bool = False

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text, line by line."""
        label, other = ("deleted", "left") if self.done else ("would delete", "would keep")
        rows = [(label, _described(one)) for one in self.deletes]
        return [*rows, *((other, str(one)) for one in self.left)] or [("nothing", "none of it is there")]

    def __str__(self) -> str:
        how = "" if self.done else f"\nNext: confirm_name={self.app!r} has it done"
        return f"{text_table(self.rows())}{how}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        how = [] if self.done else [("to do it", f"confirm_name = {self.app}")]
        return html_table([*self.rows(), *how])

    @property
    def headline(self) -> str:
        """What a form shows above it."""
        return "Tear down finished" if self.done else "Nothing was deleted; this is the plan"


def teardown(
    settings: TeardownSettings,
    *,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
) -> Teardown:
    """Delete the app, or all that this workspace created, and tell what is left and still costs.

    What others created, and what lies on a share that stays, is not touched. Again finds nothing more to
    delete; after a cancel Azure finishes the deletion that it began. Where ``confirm_name`` is empty nothing
    is deleted and the plan is returned; raises :class:`InvalidSettings` where it is another name.
    """
    workspace = workspace or Workspace.find()
    cloud = cloud or Cloud.shared()
    progress = progress or SILENT()
    with workspace.lock("teardown", target="azure"):
        place = ResourceNames.read(workspace)
        progress.phase("Looking what is there")
        plan = plan_teardown(settings, place, workspace, cloud, progress)
        if not _confirmed(settings, plan):
            return plan
        ownership.reconcile(workspace, cloud, progress)  # so that what is deleted is claimed no more
        for resource in plan.deletes:
            removal.delete(cloud, resource, progress)
            # after each: a later one may fail, and this one is gone all the same
            created.forget(workspace, [resource])
            _forget_in_config(place, [resource], workspace)
        return replace(plan, done=True)


def plan_teardown(
    settings: TeardownSettings, place: ResourceNames, workspace: Workspace, cloud: Cloud, progress: Progress
) -> Teardown:
    """Return what a teardown would delete and what stays, for whom and at what cost; changes nothing.

    Raises :class:`Busy` where all is to go and Azure still creates something of it.
    """
    new, unfinished = ownership.created_by_last_run(workspace, cloud, progress)
    ours = _distinct([*created.recall(workspace), *new])
    if settings.scope == "all" and unfinished:
        raise Busy(
            f"Azure still creates {', '.join(map(resource_ids.title_of, unfinished))} for this workspace.",
            next_step="wait some minutes, or run the provision step, which waits for it; then tear down",
        )
    goes = [place.app_id] if settings.scope == "app" else [*ours, place.app_id]
    around = run_cancellable(progress, lambda: _around(place, cloud, ours))
    there = run_cancellable(progress, lambda: removal.remaining(cloud, _distinct([*ours, *around])))
    wanted = [one.id for one in there if _among(one.id, goes)]
    reasons = needed_by_others(wanted, place, workspace, cloud, progress) if settings.scope == "all" else {}
    going = removal.deletion_order([one for one in wanted if not _needed(one, reasons)])
    kept = [one for one in there if not _within(one.id, going)]
    stays = [replace(one, reason=reasons.get(one.id.lower(), "")) for one in kept]
    besides = run_cancellable(progress, lambda: _besides(going, there, workspace, cloud))
    return Teardown(place.app, tuple(going), (*stays, *besides))


def _needed(resource: str, reasons: Mapping[str, str]) -> bool:
    """Tell whether a resource stays: somebody needs it or made it anew, or what it lies in."""
    return any(resource.lower() == parent or resource.lower().startswith(f"{parent}/") for parent in reasons)


def _besides(
    going: Sequence[str], there: Sequence[RemainingResource], workspace: Workspace, cloud: Cloud
) -> list[RemainingResource]:
    """Return what no teardown deletes: what is left of a share, machines added to what stays, the group."""
    found: list[RemainingResource] = []
    for one in going:
        if resource_ids.kind_of(one) == resource_ids.SHARE:  # its account stays: it would be named instead
            found += [left] if (left := soft_deleted(cloud, one)) else []
    for one in created.kept_on_teardown(workspace):
        if resource_ids.kind_of(one) == resource_ids.PROFILE:
            parent = one.rpartition("/workloadProfiles/")[0]
            if any(other.id.lower() == parent.lower() for other in there) and not _within(parent, going):
                found.append(
                    RemainingResource(
                        one, "added by this workspace; serverless: nothing while no app uses it"
                    )
                )
        else:
            found.append(
                RemainingResource(one, "made by this workspace; nothing by itself, so delete it where empty")
            )
    return found


def _around(place: ResourceNames, cloud: Cloud, ours: Sequence[str]) -> list[str]:
    """Return the app and what it uses."""
    share = f"{place.account_id}/fileServices/default/shares/{place.file_share}"
    found = [place.app_id, share, place.account_id]
    try:
        environment = ContainerApp(cloud, place).get().environment_id
    except AzureFailed as error:
        if error.status != 404:
            raise
        environment = next((one for one in ours if resource_ids.kind_of(one) == resource_ids.ENVIRONMENT), "")
    if not environment:
        return found
    logs = log_workspace_of(cloud, environment)
    return [*found, environment, *([logs] if logs else [])]


def _confirmed(settings: TeardownSettings, plan: Teardown) -> bool:
    given = settings.confirm_name.strip()
    if given and given != plan.app:
        raise InvalidSettings(
            f"confirm_name is {given!r}, and the app is {plan.app!r}: nothing was deleted.",
            next_step=f"give confirm_name={plan.app!r} if it shall be deleted",
        )
    return bool(given)


def _forget_in_config(place: ResourceNames, gone: Sequence[str], workspace: Workspace) -> None:
    """Take the address of a deleted app out of the config file; the names stay for the next provision."""
    if place.endpoint and _within(place.app_id, gone):
        ResourceNames(
            place.subscription, place.resource_group, place.storage_account, place.file_share, place.app
        ).write(workspace)


def _described(resource: str) -> str:
    holds = resource_ids.kind_of(resource) in (resource_ids.SHARE, resource_ids.ACCOUNT)
    text = resource_ids.title_of(resource)
    return f"{text}, with all that lies in it" if holds else text


def _distinct(ids: Sequence[str]) -> list[str]:
    return list({one.lower(): one for one in ids}.values())


def _among(resource: str, ids: Sequence[str]) -> bool:
    return resource.lower() in {one.lower() for one in ids}


def _within(resource: str, gone: Sequence[str]) -> bool:
    lower = resource.lower()
    return any(lower == one.lower() or lower.startswith(f"{one.lower()}/") for one in gone)
