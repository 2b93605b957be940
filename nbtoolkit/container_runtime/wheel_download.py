"""Choose a lock of wheels, and download them with pip for the image's Python and platform."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nbtoolkit.container_runtime.images import TRANSFORMERS, ContainerRuntime, LockedWheel
from nbtoolkit.errors import InvalidSettings, MissingDependency, WheelsUnavailable
from nbtoolkit.progress import Progress
from nbtoolkit.serving.content_hash import file_sha256
from nbtoolkit.utils.atomic_write import write_atomically
from nbtoolkit.utils.child_process import run_child
from nbtoolkit.workspace import Workspace

NO_WHEELS = "none"
"""The lock's name for an image that contains every package."""
REQUIREMENTS = "requirements.txt"
"""The lock's name next to its wheels on the share."""
_BATCH_BYTES = 32 << 20
_BATCH_WHEELS = 8
"""Wheels are kept batch by batch, so that a cancelled or failed download resumes."""


@dataclass(frozen=True)
class SharedWheels:
    """The wheels of one runtime, cached on this machine between deploys."""

    runtime: ContainerRuntime
    cache: Path

    @property
    def sha256(self) -> str:
        """The sha256 of the lock, which names the wheels' folder on the share."""
        return self.runtime.wheels_sha256

    def files(self, progress: Progress) -> Mapping[str, Path]:
        """Return the lock and its wheels by file name; downloads those missing from ``cache``.

        pip runs in a child process, with the user's index, proxy and certificates. Reads all cached wheels
        (of the transformers engine: 0.2 GB) to verify their sha256. Raises :class:`WheelsUnavailable`.
        """
        folder = self.cache / "wheels"
        folder.mkdir(parents=True, exist_ok=True)
        missing = [one for one in self.runtime.wheels if not _is_cached(one, folder, progress)]
        if missing:
            progress.phase(f"Downloading {len(missing)} packages for the container")
            download(self.runtime, missing, folder, progress)
        lock = folder / f"{self.sha256}.txt"
        write_atomically(lock, self.runtime.lock_content)
        return {REQUIREMENTS: lock, **{one.file: folder / one.file for one in self.runtime.wheels}}


def resolve_wheels(lock: str | None, workspace: Workspace) -> SharedWheels | None:
    """Return the wheels of a lock, by default of the transformers engine; None for ``"none"``.

    Raises :class:`InvalidSettings` if the lock is not a file.
    """
    if lock == NO_WHEELS:
        return None
    runtime = TRANSFORMERS
    if lock:
        path = workspace.path(lock)
        if not path.is_file():
            raise InvalidSettings(
                f"The lock of the container's packages, {path}, is not a file.",
                next_step="leave wheels_lock out, or make one: python -m nbtoolkit.container_runtime.lock",
            )
        runtime = replace(runtime, lock=path)
    return SharedWheels(runtime, workspace.cache)


def download(
    runtime: ContainerRuntime, wheels: Iterable[LockedWheel], folder: Path, progress: Progress
) -> None:
    """Download wheels into a folder; pip verifies each hash. Raises :class:`WheelsUnavailable`."""
    wheels = list(wheels)
    total, done = sum(one.size for one in wheels), 0
    for batch in _batches(wheels):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
            _pip_download(runtime, batch, Path(scratch), progress)
            for one in batch:
                (Path(scratch) / one.file).replace(folder / one.file)
        done += sum(one.size for one in batch)
        progress.advance(done, total, "B")


def target_options(runtime: ContainerRuntime) -> list[str]:
    """Return the options that make pip choose wheels for an image instead of this machine."""
    platforms = [option for tag in runtime.platforms for option in ("--platform", tag)]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={runtime.python}", *platforms]


def _is_cached(wheel: LockedWheel, folder: Path, progress: Progress) -> bool:
    progress.check()
    path = folder / wheel.file
    return path.is_file() and file_sha256(path) == wheel.sha256


def _batches(wheels: list[LockedWheel]) -> Iterator[list[LockedWheel]]:
    batch: list[LockedWheel] = []
    for one in wheels:
        if batch and (len(batch) == _BATCH_WHEELS or sum(b.size for b in batch) + one.size > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _pip_download(runtime: ContainerRuntime, batch: list[LockedWheel], to: Path, progress: Progress) -> None:
    lock = to / REQUIREMENTS
    lock.write_text("".join(f"{one.requirement}\n" for one in batch), encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps", "--no-input",
        "--disable-pip-version-check", "--progress-bar", "off", *target_options(runtime),
        "--dest", str(to), "--requirement", str(lock),
    ]  # fmt: skip
    status, output = run_child(command, progress)
    if status:
        raise _unavailable(runtime, output)
    absent = [one.file for one in batch if not (to / one.file).is_file()]
    if absent:
        raise WheelsUnavailable(
            f"pip downloaded other files than the lock names: {', '.join(absent)} are missing.",
            next_step="make the lock again: python -m nbtoolkit.container_runtime.lock",
            files=absent,
        )


def _unavailable(runtime: ContainerRuntime, output: str) -> WheelsUnavailable | MissingDependency:
    if "No module named pip" in output:
        return MissingDependency(
            f"{sys.executable} has no pip, which downloads the container's packages.",
            next_step="install it in the notebook's environment: python -m ensurepip, or uv pip install pip",
            package="pip",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "DO NOT MATCH THE HASHES" in output:
        at = next(i for i, line in enumerate(lines) if "DO NOT MATCH THE HASHES" in line)
        cause = "the index has files with other hashes than the lock: " + " ".join(lines[at + 1 : at + 5])
        step = "use an index that mirrors PyPI unchanged; or make your own lock and compare"
    elif "Retrying (Retry(" in output or "Max retries exceeded" in output:
        cause = "the package index does not answer: " + next(line for line in lines if "etr" in line)[-300:]
        step = "check network, proxy and pip's index-url (pip config list); finished downloads are kept"
    else:
        cause = (errors or lines or ["pip has no output"])[-1]
        step = (
            f"see whether pip's index (pip config list) has it for Python {runtime.python} on Linux; "
            "pip's extra-index-url or find-links add other sources"
        )
    return WheelsUnavailable(
        f"The container's packages cannot be downloaded: {cause}", next_step=step, output=output[-4000:]
    )
