"""Create the target that settings or a caller name."""

from __future__ import annotations

from typing import Literal

from nbtoolkit.errors import InvalidSettings
from nbtoolkit.filestore import FileStore, LocalFolder
from nbtoolkit.local.target import LocalTarget
from nbtoolkit.target import Target
from nbtoolkit.workspace import Workspace

TargetName = Literal["local", "azure"]
TARGET_NAMES: tuple[TargetName, ...] = ("local", "azure")


def resolve_target(
    target: Target | TargetName | None, *, keep: bool | None = None, workspace: Workspace | None = None
) -> Target:
    """Return the given target, or the workspace's target of that name; sends no request, starts nothing.

    ``keep`` applies to the local target only. Raises :class:`InvalidSettings` for another name.
    """
    if isinstance(target, str) and target not in TARGET_NAMES:
        raise InvalidSettings(
            f"There is no target {target!r}.", next_step=f"use {' or '.join(map(repr, TARGET_NAMES))}"
        )
    if target == "azure":
        from nbtoolkit.azure.target import AzureTarget  # imported late: it needs the Azure SDK

        return AzureTarget(workspace)
    if target is None or isinstance(target, str):
        return LocalTarget(workspace, keep=keep)
    if keep is not None and isinstance(target, LocalTarget):
        return target.kept(keep)
    return target


def share_containing(path: str, workspace: Workspace) -> FileStore:
    """Return the share that contains ``path``: the local target's if the path exists there, else Azure's.

    Raises :class:`InvalidSettings` if the workspace names no share on Azure.
    """
    local = workspace.state / "local" / "share"
    if (local / path).exists():
        return LocalFolder(local)
    from nbtoolkit.azure.target import AzureTarget  # imported late: it needs the Azure SDK

    return AzureTarget(workspace).share
