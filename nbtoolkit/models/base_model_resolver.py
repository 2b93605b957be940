"""Where a base model lies that a user named: in a folder, in a cache, or on the hub."""

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
"""Where fine-tuning leaves base models, in a workspace and on the share."""

_HUB_NAME = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")
_FETCHED = ["*.safetensors", "model.safetensors.index.json", *CONFIG_FILES]


def resolve_folder(
    text: str, workspace: Workspace, progress: Progress, *, download: bool
) -> tuple[Path, str | None]:
    """Return the folder of a base model, and its public name where the folder's is not it.

    Raises :class:`InvalidBase` and :class:`MissingDependency`.
    """
    if not text.strip():
        raise InvalidBase(
            "No base model was named.", next_step="give a folder, or a name such as organisation/model"
        )
    hub_name = _HUB_NAME.fullmatch(text)
    places = [workspace.path(text), workspace.path(f"{MODEL_CACHE}/{text}")]
    if hub_name:
        places.append(workspace.cache / hub_name["id"].rpartition("/")[2])
    for place in places:
        if (place / CONFIG).is_file():
            return place, None
    if places[0].is_dir():
        return places[0], None  # a folder that was meant, and whose reading will say what it lacks
    looked = [str(place) for place in places]
    if hub_name is None:
        raise _not_found(text, looked, "give an existing folder", workspace)
    folder = _from_hub(hub_name["id"], hub_name["revision"], progress, download=download)
    if folder is None:
        looked.append("the local Hugging Face cache")
        raise _not_found(text, looked, "fetch it once: Base.resolve(..., download=True)", workspace)
    return folder, hub_name["id"].rpartition("/")[2]


def _not_found(text: str, looked: list[str], next_step: str, workspace: Workspace) -> InvalidBase:
    cache = workspace.path(MODEL_CACHE)
    there = sorted(
        file.parent.relative_to(cache).as_posix()
        for depth in ("*", "*/*")
        for file in cache.glob(f"{depth}/{CONFIG}")
    )
    known = f" In {MODEL_CACHE}/ there are: {', '.join(there)}." if there else ""
    lines = "".join(f"\n  {place}" for place in looked)
    return InvalidBase(
        f"The base model {text!r} was not found.{known} Looked for in:{lines}", next_step=next_step
    )


def _from_hub(name: str, revision: str | None, progress: Progress, *, download: bool) -> Path | None:
    """Return the folder in the hub cache, None where it is not there; ``download`` fetches it first."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependency(
            f"The base model {name!r} is a hub name, and huggingface_hub is not installed.",
            next_step=f"{install_hint('model')}, or give the folder of a local copy",
            package=name,
        ) from error
    try:
        if not download:
            return Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
        progress.phase(f"Fetching {name} from the hub")
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=_FETCHED, tqdm_class=_bar_for(progress)
            )
        )
    except LocalEntryNotFoundError as error:
        if download:
            raise _unreachable(name, error) from None
        return None
    except NbtoolkitError:
        raise
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _unreachable(name, error) from None


def _unreachable(name: str, error: Exception) -> InvalidBase:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InvalidBase(
        f"The base model {name!r} could not be fetched from the hub: {first}",
        next_step="check the name and the network; for a private or gated model set HF_TOKEN",
    )


def _bar_for(progress: Progress) -> type[Any]:
    """Return a tqdm class that reports to ``progress`` and draws nothing; a cancel ends the download."""
    from tqdm import tqdm

    lock = threading.Lock()
    bars: list[Any] = []

    class Bar(tqdm):  # type: ignore[type-arg]
        """One of several bars over the same bytes (received, written): the furthest is reported."""

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
                    mine = [bar for bar in bars if bar.counts_bytes]
                progress.advance(
                    sum(bar.done for bar in mine), sum(bar.total or 0 for bar in mine) or None, "B"
                )

    return Bar
