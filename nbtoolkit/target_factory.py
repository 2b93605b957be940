"""Choose the target that settings or a caller name."""

from __future__ import annotations

from typing import Literal

from nbtoolkit.filestore import FileStore, LocalFolder
from nbtoolkit.local import LocalTarget
from nbtoolkit.target import Target
from nbtoolkit.workspace import Workspace

Place = Literal["local", "azure"]
PLACES: tuple[Place, ...] = ("local", "azure")


def target_at(
    place: Target | Place | None, *, keep: bool | None = None, workspace: Workspace | None = None
) -> Target:
    """Return a target as it is, or the workspace's own one of that place; nothing is asked or started.

    ``keep`` counts for this machine only.
    """
    if place == "azure":
        from nbtoolkit.azure.target import AzureTarget  # late: it needs the Azure SDK

        return AzureTarget(workspace)
    if place is None or isinstance(place, str):
        return LocalTarget(workspace, keep=keep)
    if keep is not None and isinstance(place, LocalTarget):
        return place.kept(keep)
    return place


def store_with(path: str, workspace: Workspace) -> FileStore:
    """Return the share that contains ``path``: the local target's if the path exists there, else Azure's.

    Raises :class:`InvalidSettings` if the workspace names no share on Azure.
    """
    local = workspace.state / "local" / "share"
    if (local / path).exists():
        return LocalFolder(local)
    from nbtoolkit.azure.target import AzureTarget  # imported late: it needs the Azure SDK

    return AzureTarget(workspace).share
