"""Find the folder of an adapter by path or hub name; one on the hub is downloaded at its commit."""

from __future__ import annotations

from pathlib import Path

from nbtoolkit.errors import InvalidAdapter
from nbtoolkit.models.adapter import CONFIG, WEIGHTS
from nbtoolkit.models.hub import HubName, hub_snapshot, repository_files
from nbtoolkit.progress import Progress
from nbtoolkit.serving.content_hash import ADAPTER_FILES, TEMPLATES
from nbtoolkit.workspace import Workspace

_DOWNLOADED = (*ADAPTER_FILES, f"{TEMPLATES}/*.jinja")


def resolve_adapter_folder(text: str, workspace: Workspace, progress: Progress) -> Path:
    """Return the folder of an adapter; one on the hub is downloaded into the local hub cache first.

    A text is a path if a folder has that name, relative to the workspace, or if the workspace has a folder of
    its first part. Otherwise ``org/name``, ``org/name@revision``, a page's URL and an ``hf://`` path name an
    adapter on the hub. Only the files of an adapter are downloaded: no code, no pickles, no optimizer states.
    Raises :class:`InvalidAdapter` and :class:`MissingDependency`.
    """
    hub = hub_adapter(text, workspace)
    if hub is None:
        return workspace.path(text)
    folder = hub_snapshot(hub, _DOWNLOADED, progress, invalid=InvalidAdapter, download=True)
    assert folder is not None
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise _not_an_adapter(hub, folder, missing[0])
    return folder


def cached_adapter_folder(text: str, workspace: Workspace) -> Path | None:
    """Return the folder of an adapter without a download; None if it is not in the local hub cache."""
    hub = hub_adapter(text, workspace)
    if hub is None:
        return workspace.path(text)
    return hub_snapshot(hub, _DOWNLOADED, Progress(), invalid=InvalidAdapter, download=False)


def hub_adapter(text: str, workspace: Workspace) -> HubName | None:
    """Return the hub name that a text is; None if it is a path."""
    hub = HubName.parse(text)
    if hub is None or hub.is_url:
        return hub
    is_path = workspace.path(text).exists() or workspace.path(hub.id.partition("/")[0]).is_dir()
    return None if is_path else hub


def _not_an_adapter(hub: HubName, folder: Path, missing: str) -> InvalidAdapter:
    """Return the error for a repository without the files of an adapter, with what it has instead."""
    commit = next(
        part for before, part in zip(folder.parts, folder.parts[1:], strict=False) if before == "snapshots"
    )
    prefix = f"{hub.folder}/" if hub.folder else ""
    files = repository_files(hub, commit)
    inner = sorted({name.rpartition("/")[0] for name in files if name.endswith(f"/{CONFIG}")})
    pickles = [
        name
        for name in files
        if name.startswith(f"{prefix}adapter_model") and not name.endswith(".safetensors")
    ]
    check, problem, next_step = "A1", f"it has no {missing}", "name a repository with a LoRA adapter"
    if missing == WEIGHTS and pickles:
        check, problem = "A2", f"its weights are a pickle ({pickles[0]}), which is never downloaded"
        next_step = f"save it as {WEIGHTS}: PEFT's save_pretrained(..., safe_serialization=True)"
    elif missing == CONFIG and inner:
        problem = f"its adapters are in folders: {', '.join(inner[:8])}{' …' if len(inner) > 8 else ''}"
        next_step = f"name one of them: hf://{hub.id}@{hub.revision or commit}/{inner[-1]}"
    elif missing == CONFIG and "config.json" in files:
        problem = "it is a whole model, not an adapter"
        next_step = "name it as the base; an adapter's repository has an adapter_config.json"
    return InvalidAdapter(
        f"{check}: the adapter {str(hub)!r} on the hub: {problem}.",
        next_step=next_step,
        check=check,
        path=folder,
        problem=problem,
    )
