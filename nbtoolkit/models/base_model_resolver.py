"""Find the folder of a base model by path or hub name: in the workspace, in a cache or on the hub."""

from __future__ import annotations

from pathlib import Path

from nbtoolkit.errors import InvalidBase
from nbtoolkit.models.base_model_files import CONFIG, CONFIG_FILES
from nbtoolkit.models.hub import HubName, hub_snapshot
from nbtoolkit.progress import Progress
from nbtoolkit.serving.content_hash import TEMPLATES
from nbtoolkit.workspace import Workspace

MODEL_CACHE = "model-cache"
"""The folder to which fine-tuning writes base models, in a workspace and on the share."""

_DOWNLOADED = ["*.safetensors", "model.safetensors.index.json", f"{TEMPLATES}/*.jinja", *CONFIG_FILES]


def resolve_folder(
    text: str, workspace: Workspace, progress: Progress, *, download: bool
) -> tuple[Path, str | None]:
    """Return the folder of a base model, and its public name if that is not the folder's name.

    Raises :class:`InvalidBase` and :class:`MissingDependency`.
    """
    if not text.strip():
        raise InvalidBase(
            "No base model was named.", next_step="give a folder, or a name such as organisation/model"
        )
    hub = HubName.parse(text)
    candidates = [workspace.path(text), workspace.path(f"{MODEL_CACHE}/{text}")]
    if hub:
        candidates.append(workspace.cache / hub.name)
    for folder in candidates:
        if (folder / CONFIG).is_file():
            return folder, None
    if candidates[0].is_dir():
        return candidates[0], None  # reading it raises an error that names the missing files
    searched = [str(folder) for folder in candidates]
    if hub is None:
        raise _not_found(text, searched, "give an existing folder", workspace)
    folder = hub_snapshot(hub, _DOWNLOADED, progress, invalid=InvalidBase, download=download)
    if folder is None:
        searched.append("the local Hugging Face cache")
        raise _not_found(text, searched, "download it once: Base.resolve(..., download=True)", workspace)
    return folder, hub.name


def _not_found(text: str, searched: list[str], next_step: str, workspace: Workspace) -> InvalidBase:
    cache = workspace.path(MODEL_CACHE)
    names = sorted(
        file.parent.relative_to(cache).as_posix()
        for depth in ("*", "*/*")
        for file in cache.glob(f"{depth}/{CONFIG}")
    )
    known = f" In {MODEL_CACHE}/ there are: {', '.join(names)}." if names else ""
    lines = "".join(f"\n  {location}" for location in searched)
    return InvalidBase(
        f"The base model {text!r} was not found.{known} Looked for in:{lines}", next_step=next_step
    )
