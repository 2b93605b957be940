"""End what costs money on Azure: the app alone, or all that this workspace created."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import Field

from nbtoolkit.azure import created, removal
from nbtoolkit.azure.apps import App
from nbtoolkit.azure.cloud import Cloud
from nbtoolkit.azure.provisioned import Provisioned
from nbtoolkit.azure.removal import Left
from nbtoolkit.errors import AzureFailed, InvalidSettings
from nbtoolkit.fact_table import fact_table
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.settings import Settings
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
    left: tuple[Left, ...]
    done: bool = False

    def rows(self) -> list[tuple[str, str]]:
        """Return label and text, line by line."""
        label, other = ("deleted", "left") if self.done else ("would delete", "would keep")
        rows = [(label, _described(one)) for one in self.deletes]
        return [*rows, *((other, str(one)) for one in self.left)] or [("nothing", "none of it is there")]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(label) for label, _ in rows)
        lines = [f"{label:<{width}}  {text}" for label, text in rows]
        return "\n".join(lines if self.done else [*lines, f"Next: confirm_name={self.app!r} has it done"])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        how = [] if self.done else [("to do it", f"confirm_name = {self.app}")]
        return fact_table("Teardown", [*self.rows(), *how])


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
        place = Provisioned.read(workspace)
        progress.phase("Looking what is there")
        plan = plan_teardown(settings, place, workspace, cloud)
        if not _confirmed(settings, plan):
            return plan
        for resource in plan.deletes:
            removal.delete(cloud, resource, progress)
            created.forget(workspace, [resource])
        _forget_in_config(place, plan.deletes, workspace)
        return replace(plan, done=True)


def plan_teardown(
    settings: TeardownSettings, place: Provisioned, workspace: Workspace, cloud: Cloud
) -> Teardown:
    """Return what a teardown would delete and what stays; reads only."""
    ours = created.recall(workspace)
    goes = [place.app_id] if settings.scope == "app" else [*ours, place.app_id]
    known = _distinct([*ours, *_around(place, cloud)])
    there = removal.left(cloud, known)
    going = removal.in_order([one.id for one in there if _among(one.id, goes)])
    stays = [one for one in there if not _within(one.id, going)]
    return Teardown(place.app, tuple(going), tuple(stays))


def _around(place: Provisioned, cloud: Cloud) -> list[str]:
    """Return the app and what it uses."""
    share = f"{place.account_id}/fileServices/default/shares/{place.file_share}"
    found = [place.app_id, share, place.account_id]
    try:
        return [*found, App(cloud, place).get().environment_id]
    except AzureFailed as error:
        if vars(error).get("status") != 404:
            raise
        return found


def _confirmed(settings: TeardownSettings, plan: Teardown) -> bool:
    given = settings.confirm_name.strip()
    if given and given != plan.app:
        raise InvalidSettings(
            f"confirm_name is {given!r}, and the app is {plan.app!r}: nothing was deleted.",
            next_step=f"give confirm_name={plan.app!r} if it shall be deleted",
            confirm_name=given,
        )
    return bool(given)


def _forget_in_config(place: Provisioned, gone: Sequence[str], workspace: Workspace) -> None:
    """Take the address of a deleted app out of the config file; the names stay for the next provision."""
    if place.endpoint and _within(place.app_id, gone):
        Provisioned(
            place.subscription, place.resource_group, place.storage_account, place.file_share, place.app
        ).write(workspace)


def _described(resource: str) -> str:
    holds = removal.kind_of(resource) in (removal.SHARE, removal.ACCOUNT)
    text = removal.title_of(resource)
    return f"{text}, with all that lies in it" if holds else text


def _distinct(ids: Sequence[str]) -> list[str]:
    return list({one.lower(): one for one in ids}.values())


def _among(resource: str, ids: Sequence[str]) -> bool:
    return resource.lower() in {one.lower() for one in ids}


def _within(resource: str, gone: Sequence[str]) -> bool:
    lower = resource.lower()
    return any(lower == one.lower() or lower.startswith(f"{one.lower()}/") for one in gone)
