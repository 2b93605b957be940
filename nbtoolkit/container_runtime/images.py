"""Container images and the locked wheels that nbtoolkit's server needs in addition.

An image contains Python and the engine's large packages. The wheels of a lock are downloaded on the user's
machine, uploaded to the share once, and installed from there: a starting replica downloads nothing.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from nbtoolkit.errors import BrokenFile

_HERE = Path(__file__).parent
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_LINE = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})"
    r"  # (?P<file>[\w.+-]+\.whl) (?P<size>\d+)"
)


@dataclass(frozen=True)
class LockedWheel:
    """One line of a lock; ``size`` in bytes."""

    name: str
    version: str
    sha256: str
    file: str
    size: int

    @property
    def requirement(self) -> str:
        """The line as pip reads it, in its requirements format with hashes."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    def __str__(self) -> str:
        return f"{self.requirement}  # {self.file} {self.size}"


@dataclass(frozen=True)
class ContainerRuntime:
    """A container image and its lock of wheels.

    ``python`` is the image's version, ``glibc`` the oldest minor version of glibc 2 that the wheels must
    support. A custom image needs its own lock: ``python -m nbtoolkit.container_runtime.lock``.
    """

    engine: Literal["transformers", "vllm"]
    image: str
    lock: Path
    python: str = "3.12"
    glibc: int = 28

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platform tags whose wheels run in the image, the best first."""
        tags: list[str] = []
        for minor in range(self.glibc, min(_LEGACY) - 1, -1):
            tags.append(f"manylinux_2_{minor}_x86_64")
            if minor in _LEGACY:
                tags.append(f"{_LEGACY[minor]}_x86_64")
        return (*tags, "linux_x86_64")

    @cached_property
    def lock_content(self) -> bytes:
        """The lock as uploaded to the share; the same bytes on every system."""
        return self.lock.read_bytes().replace(b"\r\n", b"\n")

    @property
    def wheels_sha256(self) -> str:
        """The sha256 of the lock, which contains the sha256 of each wheel."""
        return hashlib.sha256(self.lock_content).hexdigest()

    @cached_property
    def wheels(self) -> tuple[LockedWheel, ...]:
        """The wheels of the lock; raises :class:`BrokenFile`."""
        return tuple(parse_lock(self.lock_content.decode(), self.lock))


def parse_lock(text: str, path: Path) -> list[LockedWheel]:
    """Return the wheels that a lock names; raises :class:`BrokenFile` with file and line."""
    found: list[LockedWheel] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise BrokenFile(
                f"{path}, line {number}: {line[:80]!r} is not 'name==version --hash=sha256:…  # file size'.",
                next_step="make the lock again: python -m nbtoolkit.container_runtime.lock",
                path=path,
                line=number,
            )
        name, version, sha256, file, size = match.groups()
        found.append(LockedWheel(name, version, sha256, file, int(size)))
    return found


TRANSFORMERS = ContainerRuntime(
    engine="transformers",
    image=(
        "docker.io/pytorch/pytorch:2.13.0-cuda12.6-cudnn9-runtime"
        "@sha256:6acf597eeb8e376a96580dde4952f37cc017fef732bb40bfc73f28f25e3f64b4"
    ),
    lock=_HERE / "transformers.lock",
)
"""PyTorch's own image: Ubuntu 24.04, Python 3.12 of the system, torch 2.13.0+cu126, whose kernels include
those of the T4 (7.5) and the A100 (8.0). It runs on a CPU as well. Tag, digest, Python and torch are taken
from other projects that pin the same digest; it was never pulled by this one."""

VLLM = ContainerRuntime(
    engine="vllm",
    image="mcr.microsoft.com/aks/kaito/kaito-base:0.4.2",
    lock=_HERE / "vllm.lock",
)
"""Microsoft's image of KAITO, in the registry next to ACA: Debian, Python 3.12, vLLM 0.22.1, torch 2.11.0.
The wheels are for the gateway only; vLLM brings its own and must not be started with ours on its path."""

RUNTIMES = {runtime.engine: runtime for runtime in (TRANSFORMERS, VLLM)}
