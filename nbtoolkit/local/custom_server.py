"""Run the start commands of a custom server on this machine."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from nbtoolkit.errors import InvalidSettings, ServerFailed
from nbtoolkit.progress import Progress

_MOUNT = re.compile(r"(?<![\w./-])/mount(?![\w.-])")
_PLAIN_PATH = re.compile(r"[\w./+@%,:=-]+")


def start_script(commands: Sequence[str]) -> str:
    """Return one shell script that runs commands in order and ends at the first that fails.

    They share one shell, so that ``cd`` and ``export`` affect later commands. The failed command is reported
    on standard error.
    """
    lines = ["set -e", f"trap {_QUOTED_TRAP.format(count=len(commands))} EXIT"]
    for number, command in enumerate(commands, start=1):
        # `set -e` ignores a failure inside a list such as `a && b` except in its last command
        lines += [
            f"nbtoolkit_step={number}",
            command,
            "nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || exit 1",
        ]
    return "\n".join(lines)


_QUOTED_TRAP = (
    "'nbtoolkit_code=$?; [ $nbtoolkit_code -eq 0 ] || "
    'echo "nbtoolkit: start command $nbtoolkit_step of {count} failed with exit code $nbtoolkit_code" >&2\''
)


def replace_mount(commands: Sequence[str], share: Path) -> tuple[str, ...]:
    """Return commands with the container's ``/mount`` replaced by the share's folder on this machine.

    Only the commands are changed, and only whole path names; code must read the variable NBTOOLKIT_MOUNT
    instead of using ``/mount``. Raises :class:`InvalidSettings` if the folder's name needs quotes.
    """
    if any(_MOUNT.search(command) for command in commands) and not _PLAIN_PATH.fullmatch(str(share)):
        raise InvalidSettings(
            f"The share lies in {str(share)!r}, which shell commands cannot name without quotes.",
            next_step="choose a folder without spaces: LocalTarget(root='/path/to/folder')",
        )
    return tuple(_MOUNT.sub(lambda _: str(share), command) for command in commands)


def shell() -> str:
    """Return the shell for the commands: bash as in the container, else sh."""
    found = shutil.which("bash") or shutil.which("sh")
    if found is None:
        raise ServerFailed(
            "This machine has no shell for the start commands: neither bash nor sh is on the PATH.",
            next_step="install bash, or deploy with server='nbtoolkit'",
        )
    return found


def create_environment(folder: Path, progress: Progress) -> Path:
    """Create a virtual environment for a custom server and return its folder of programs.

    It includes the packages of this environment; ``pip install`` in the commands does not change these. The
    first call takes some seconds.
    """
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    done = folder / "complete"
    if done.exists():
        return programs
    progress.phase("Creating a virtual environment for your own server")
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    created = subprocess.run(command, capture_output=True, text=True, check=False)
    if created.returncode:
        output = (created.stderr or created.stdout).strip()[-500:]
        raise ServerFailed(
            f"The virtual environment {folder} could not be created: {output}",
            next_step="repair `python -m venv` on this machine (on Debian: apt install python3-venv)",
        )
    site_packages = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    paths = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (Path(site_packages) / "of-the-notebook.pth").write_text("\n".join(lines), encoding="utf-8")
    done.touch()
    return programs
