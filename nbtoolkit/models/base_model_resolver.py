"""Find the folder of a base model by path or hub name: in the workspace, in a cache or on the hub."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

from nbtoolkit.errors import InvalidBase, MissingDependency, NbtoolkitError
from nbtoolkit.installation import install_hint
from nbtoolkit.models.base_model_files import CONFIG, CONFIG_FILES
from nbtoolkit.progress import Progress
from nbtoolkit.workspace import Workspace

MODEL_CACHE = "model-cache"
"""The folder to which fine-tuning writes base models, in a workspace and on the share."""

_HUB_NAME = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_DOWNLOADED = ["*.safetensors", "model.safetensors.index.json", "additional_chat_templates/*", *CONFIG_FILES]


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
    hub_name = _HUB_NAME.fullmatch(text)
    candidates = [workspace.path(text), workspace.path(f"{MODEL_CACHE}/{text}")]
    if hub_name:
        candidates.append(workspace.cache / hub_name["id"].rpartition("/")[2])
    for folder in candidates:
        if (folder / CONFIG).is_file():
            return folder, None
    if candidates[0].is_dir():
        return candidates[0], None  # reading it raises an error that names the missing files
    searched = [str(folder) for folder in candidates]
    if hub_name is None:
        raise _not_found(text, searched, "give an existing folder", workspace)
    folder = _hub_snapshot(hub_name["id"], hub_name["revision"], progress, download=download)
    if folder is None:
        searched.append("the local Hugging Face cache")
        raise _not_found(text, searched, "download it once: Base.resolve(..., download=True)", workspace)
    return folder, hub_name["id"].rpartition("/")[2]


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


def _hub_snapshot(name: str, revision: str | None, progress: Progress, *, download: bool) -> Path | None:
    """Return the folder in the hub cache, None if it is not cached; ``download`` downloads it first."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"The base model {name!r} is a hub name, and huggingface_hub is not installed.",
            next_step=f"{install_hint('model')}, or give the folder of a local copy",
            package="huggingface_hub",
        ) from error
    try:
        if not download:
            return Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
        progress.phase(f"Downloading {name} from the hub")
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=_DOWNLOADED, tqdm_class=_progress_bar(progress)
            )
        )
    except LocalEntryNotFoundError as error:
        if download:
            raise _download_failed(name, error) from None
        return None
    except NbtoolkitError:
        raise
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _download_failed(name, error) from None


def _download_failed(name: str, error: Exception) -> InvalidBase:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InvalidBase(
        f"The base model {name!r} could not be downloaded from the hub: {first}",
        next_step="check the name and the network; for a private or gated model set HF_TOKEN",
    )


def _progress_bar(progress: Progress) -> type[Any]:
    """Return a tqdm class that reports to ``progress`` and prints nothing; a cancel ends the download."""
    from tqdm import tqdm

    lock = threading.Lock()
    bars: list[Any] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        """One of the bars of a download; the sum of those that count bytes is reported."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            options["disable"] = True
            self.counts_bytes = options.get("unit") == "B"
            self.done = float(options.get("initial") or 0)
            super().__init__(*args, **options)
            with lock:
                bars.append(self)

        def update(self, n: float | None = 1) -> None:
            """Report the bytes so far."""
            progress.check()
            self.done += n or 0
            if self.counts_bytes:
                with lock:
                    byte_bars = [bar for bar in bars if bar.counts_bytes]
                progress.advance(
                    sum(bar.done for bar in byte_bars), sum(bar.total or 0 for bar in byte_bars) or None, "B"
                )

    return Bar
