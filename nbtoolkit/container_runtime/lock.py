"""Lock a server's packages for an image: ``python -m nbtoolkit.container_runtime.lock [ENGINE ...]``.

Run it if a pin in constraints.txt changes. It uses the package index of pip's configuration, on any
system, and downloads every wheel once to record its size.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from nbtoolkit.container_runtime.images import RUNTIMES, ContainerRuntime, LockedWheel
from nbtoolkit.container_runtime.wheel_download import download, target_options
from nbtoolkit.errors import InvalidSettings
from nbtoolkit.installation import DISTRIBUTION
from nbtoolkit.progress import PrintProgress

EXTRAS = {"transformers": ("serving", "model", "nf4"), "vllm": ("serving",)}
"""Which of this package's extras the server needs, by engine."""
BROUGHT = {"torch": "2.13.0+cu126"}
"""Packages that the image already contains, in builds that an index may not have."""
_PLAIN = ("httpx", "pydantic")
"""The requirements of this package that the server needs."""


def requirements(engine: str) -> list[str]:
    """Return the requirements of the server with an engine, from this package's metadata."""
    needed: list[str] = []
    for requirement in requires(DISTRIBUTION) or []:
        wanted, _, marker = (part.strip() for part in requirement.partition(";"))
        of_extra = any(marker.replace('"', "'") == f"extra == '{extra}'" for extra in EXTRAS[engine])
        if of_extra or (not marker and wanted.startswith(_PLAIN)):
            needed.append(wanted)
    return needed


def resolve(runtime: ContainerRuntime, needed: Sequence[str], constraints: Path) -> list[LockedWheel]:
    """Return the wheels for an image, without those it already contains; sizes are 0.

    Raises :class:`InvalidSettings` with pip's output if the requirements conflict.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pins = folder / "brought.txt"
        pins.write_text("".join(f"{name}=={version}\n" for name, version in BROUGHT.items()))
        for name, version in BROUGHT.items():
            _placeholder(folder, name, version)
        report = folder / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
            "--report", str(report), "--target", str(folder / "target"), "--find-links", scratch,
            "--constraint", str(constraints), "--constraint", str(pins),
            *target_options(runtime), *needed,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InvalidSettings(
                f"No set of wheels fits {runtime.image}:\n{done.stderr.strip()[-2000:]}",
                next_step="correct the pins that pip names, in constraints.txt or pyproject.toml",
            )
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    wheels = [_wheel(one) for one in found]
    return sorted((one for one in wheels if one.name not in BROUGHT), key=lambda one: one.name)


def lock_text(runtime: ContainerRuntime, wheels: Sequence[LockedWheel]) -> str:
    """Return the content of a lock file."""
    total = sum(one.size for one in wheels) / 1e6
    head = [
        f"# Wheels for Python {runtime.python} in {runtime.image}, {total:.0f} MB.",
        "# Made by `python -m nbtoolkit.container_runtime.lock` from constraints.txt; do not edit.",
    ]
    return "\n".join([*head, *map(str, wheels), ""])


def main() -> int:
    """Write the locks of the engines in the command line, or of all."""
    parser = argparse.ArgumentParser(
        prog="nbtoolkit.container_runtime.lock", description="Lock a server's wheels."
    )
    parser.add_argument(
        "engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(RUNTIMES)}; default: all"
    )
    parser.add_argument("--constraints", type=Path, default=Path("constraints.txt"))
    arguments = parser.parse_args()
    for engine in arguments.engines or RUNTIMES:
        runtime = RUNTIMES[engine]
        wheels = resolve(runtime, requirements(engine), arguments.constraints)
        with tempfile.TemporaryDirectory() as scratch:
            download(runtime, wheels, Path(scratch), PrintProgress())
            wheels = [replace(one, size=(Path(scratch) / one.file).stat().st_size) for one in wheels]
        runtime.lock.write_text(lock_text(runtime, wheels), encoding="utf-8", newline="\n")
        print(f"{runtime.lock}: {len(wheels)} wheels, {sum(one.size for one in wheels) / 1e6:.0f} MB")  # noqa: T201
    return 0


def _wheel(found: Mapping[str, Any]) -> LockedWheel:
    info = found["download_info"]
    return LockedWheel(
        name=re.sub(r"[-_.]+", "-", found["metadata"]["name"]).lower(),
        version=found["metadata"]["version"],
        sha256=info["archive_info"]["hashes"]["sha256"],
        file=unquote(urlsplit(info["url"]).path.rpartition("/")[2]),
        size=0,
    )


def _placeholder(folder: Path, name: str, version: str) -> None:
    """Write an empty wheel for a package of the image, so that pip does not download it."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


if __name__ == "__main__":
    sys.exit(main())
