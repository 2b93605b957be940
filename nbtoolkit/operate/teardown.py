"""Delete the app, or all resources that this workspace created on Azure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from nbtoolkit.azure import resource_id
from nbtoolkit.azure.arm import created_resources, delete
from nbtoolkit.azure.arm.delete import RemainingResource
from nbtoolkit.azure.arm.resource_names import ResourceNames
from nbtoolkit.azure.clients import Cloud
from nbtoolkit.azure.container_apps.app import ContainerApp
from nbtoolkit.azure.container_apps.models import EnvironmentState
from nbtoolkit.azure.logs.log_analytics import workspace_of
from nbtoolkit.errors import AzureFailed, Busy, InvalidSettings
from nbtoolkit.operate.teardown_dependents import needed_by_others, soft_deleted_share
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
from nbtoolkit.utils.display import FactTable, html_table, text_table
from nbtoolkit.utils.threads import run_cancellable
from nbtoolkit.workspace import Workspace


class TeardownSettings(Settings):
    """What to delete; nothing is deleted until ``confirm_name`` is the app's name."""

    scope: Literal["app", "all"] = Field(
        default="app", description="app: the container app only; all: everything this workspace created"
    )
    confirm_name: str = Field(
        default="", title="Name of the app", description="type the app's name to delete it"
    )


class OperateSettings(Settings):
    """The parameters of the operate notebook: lines of the log, and what to tear down."""

    log_lines: int = Field(default=100, ge=1, le=300, description="lines of each container's log to show")
    scope: Literal["app", "all"] = Field(default="app", description="what a teardown deletes")
    confirm_name: str = Field(default="", description="the app's name, to run the teardown")

    @property
    def teardown(self) -> TeardownSettings:
        """The settings of the teardown."""
        return TeardownSettings(scope=self.scope, confirm_name=self.confirm_name)


@dataclass(frozen=True, repr=False)
class Teardown(FactTable):
    """What a teardown would delete, or has deleted if ``done``, and what remains at what cost."""

    app: str
    deletes: tuple[str, ...]
    left: tuple[RemainingResource, ...]
    done: bool = False

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text of each resource."""
        deleted, kept = ("deleted", "left") if self.done else ("would delete", "would keep")
        rows: list[tuple[str, str]] = []
        for id_ in self.deletes:
            has_files = resource_id.kind_of(id_) in (resource_id.SHARE, resource_id.ACCOUNT)
            title = resource_id.title_of(id_)
            rows.append((deleted, f"{title}, with all files in it" if has_files else title))
        return [*rows, *((kept, str(one)) for one in self.left)] or [("nothing", "no resource exists")]

    def __str__(self) -> str:
        next_step = "" if self.done else f"\nNext: confirm_name={self.app!r} deletes it"
        return f"{text_table(self.rows())}{next_step}"

    def _repr_html_(self) -> str:
        next_step = [] if self.done else [("to delete it", f"confirm_name = {self.app}")]
        return html_table([*self.rows(), *next_step])

    @property
    def headline(self) -> str:
        """The title above the result in a form."""
        return "Tear down finished" if self.done else "Nothing was deleted; this is the plan"


def teardown(
    settings: TeardownSettings,
    *,
    workspace: Workspace | None = None,
    cloud: Cloud | None = None,
    progress: Progress | None = None,
) -> Teardown:
    """Delete the app, or all that this workspace created; return what remains and its cost.

    Resources of others, and files on a share that stays, are not touched. A repeated run finds nothing to
    delete; after a cancel Azure finishes the deletion that has begun. With an empty ``confirm_name`` nothing
    is deleted and the plan is returned. Raises :class:`InvalidSettings` if it is another name,
    :class:`AzureFailed`, :class:`Busy`.
    """
    workspace = workspace or Workspace.find()
    cloud = cloud or Cloud.shared()
    progress = progress or SILENT()
    with workspace.lock("teardown", target="azure"):
        names = ResourceNames.read(workspace)
        progress.phase("Reading what exists on Azure")
        plan = plan_teardown(settings, names, workspace, cloud, progress)
        name = settings.confirm_name.strip()
        if not name:
            return plan
        if name != plan.app:
            raise InvalidSettings(
                f"confirm_name is {name!r}, and the app is {plan.app!r}: nothing was deleted.",
                next_step=f"set confirm_name={plan.app!r} to delete it",
            )
        # so that no deleted resource is noted as created
        created_resources.reconcile(workspace, cloud, progress)
        for resource in plan.deletes:
            delete.delete(cloud, resource, progress)
            # after each one: a later deletion may fail
            created_resources.forget(workspace, [resource])
            if names.endpoint and resource_id.is_within(names.app_id, [resource]):
                # the names stay for the next provision
                replace(names, endpoint=None).write(workspace)
        return replace(plan, done=True)


def plan_teardown(
    settings: TeardownSettings, names: ResourceNames, workspace: Workspace, cloud: Cloud, progress: Progress
) -> Teardown:
    """Return what a teardown would delete, and what stays, why and at what cost; changes nothing.

    Raises :class:`Busy` if all is to be deleted while Azure still creates a part of it.
    """
    new, unfinished = created_resources.created_by_last_run(workspace, cloud, progress)
    created = _distinct([*created_resources.recall(workspace), *new])
    if settings.scope == "all" and unfinished:
        raise Busy(
            f"Azure still creates {', '.join(map(resource_id.title_of, unfinished))} for this workspace.",
            next_step="wait some minutes, or run the provision step, which waits for it; then tear down",
        )
    scope = [names.app_id] if settings.scope == "app" else [*created, names.app_id]
    used = run_cancellable(progress, lambda: _app_and_dependencies(names, cloud, created))
    existing = run_cancellable(progress, lambda: delete.remaining(cloud, _distinct([*created, *used])))
    scope_ids = {one.lower() for one in scope}
    candidates = [one.id for one in existing if one.id.lower() in scope_ids]
    reasons = (
        needed_by_others(candidates, names, workspace, cloud, progress) if settings.scope == "all" else {}
    )
    deletes = delete.deletion_order([one for one in candidates if not resource_id.is_within(one, reasons)])
    kept = [
        replace(one, reason=reasons.get(one.id.lower(), ""))
        for one in existing
        if not resource_id.is_within(one.id, deletes)
    ]
    further = run_cancellable(progress, lambda: _never_deleted(deletes, existing, workspace, cloud))
    return Teardown(names.app, tuple(deletes), (*kept, *further))


def _never_deleted(
    deletes: Sequence[str], existing: Sequence[RemainingResource], workspace: Workspace, cloud: Cloud
) -> list[RemainingResource]:
    """Return what no teardown deletes: soft-deleted shares, profiles added to environments, the group."""
    found: list[RemainingResource] = []
    for id_ in deletes:
        if resource_id.kind_of(id_) == resource_id.SHARE:  # with its account, only the account is listed
            found += [share] if (share := soft_deleted_share(cloud, id_)) else []
    for id_ in created_resources.kept_on_teardown(workspace):
        reason = "created by this workspace; free itself, so delete it if it is empty"
        if resource_id.kind_of(id_) == resource_id.PROFILE:
            environment = id_.rpartition("/workloadProfiles/")[0].lower()
            if environment not in {one.id.lower() for one in existing} or resource_id.is_within(
                environment, deletes
            ):
                continue
            reason = "added by this workspace; serverless: free while no app uses it"
        found.append(RemainingResource(id_, reason))
    return found


def _app_and_dependencies(names: ResourceNames, cloud: Cloud, created: Sequence[str]) -> list[str]:
    """Return the app and the resources that it uses."""
    found = [names.app_id, names.ids["file_share"], names.account_id]
    try:
        environment = ContainerApp(cloud, names).get().environment_id
    except AzureFailed as error:
        if error.status != 404:
            raise
        environments = [one for one in created if resource_id.kind_of(one) == resource_id.ENVIRONMENT]
        environment = environments[0] if environments else ""
    if not environment:
        return found
    state = EnvironmentState(delete.get_resource(cloud, environment) or {})
    logs = workspace_of(cloud, resource_id.parse_location(environment).subscription, state)
    return [*found, environment, *([logs] if logs else [])]


def _distinct(ids: Sequence[str]) -> list[str]:
    return list({one.lower(): one for one in ids}.values())
